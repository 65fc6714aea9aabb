//! Our answers beside upstream's.

use anyhow::Result;

use crate::command::{cargo, root, run};

/// Runs the comparison; it says itself what it does not find.
pub(crate) fn compare(focus: &str) -> Result<()> {
    let mut command = cargo();
    command.current_dir(root()?).args(["run", "--locked", "--package", "tiphys-testkit"]);
    command.args(["--example", "differential", "--", focus]);
    run(&mut command)
}

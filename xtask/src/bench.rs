//! The table of numbers.

use anyhow::Result;

use crate::{
    binary,
    command::{cargo, root, run},
    host,
};

/// Builds the static binary and a client to measure it with, and prints the table.
pub(crate) fn table(groups: &[String]) -> Result<()> {
    let binary = binary::build()?;
    host::test_packages()?;
    let kubectl = host::kubectl()?;
    // As the binary is built, so that both share what is compiled of their dependencies.
    run(cargo()
        .current_dir(root()?)
        .args(["bench", "--locked", "--package", "tiphys-testkit", "--bench", "cluster"])
        .args(["--target", &binary::triple()?, "--"])
        .args(groups)
        .env("RUSTFLAGS", binary::FLAGS)
        .env("TIPHYS_BINARY", binary)
        .env("KUBECTL", kubectl))
}

//! The table of numbers.

use std::path::Path;

use anyhow::Result;

use crate::{
    binary,
    command::{cargo, root, run},
    host,
};

/// Builds the static binary, unless `TIPHYS_BINARY` names one, and prints the table.
pub(crate) fn table(groups: &[String]) -> Result<()> {
    let binary = match std::env::var_os("TIPHYS_BINARY") {
        Some(binary) => binary.into(),
        None => binary::build()?,
    };
    client(&binary, groups)
}

/// Builds a client to measure a binary with, and runs it.
pub(crate) fn client(binary: &Path, groups: &[String]) -> Result<()> {
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

//! Upstream's suite.

use anyhow::Result;

use crate::{
    binary,
    command::{cargo, root, run},
    host,
};

/// Builds the static binary and runs those of the suite's cases against it that `focus` finds.
pub(crate) fn run_suite(focus: &str) -> Result<()> {
    let binary = match std::env::var_os("TIPHYS_BINARY") {
        Some(binary) => binary.into(),
        None => binary::build()?,
    };
    host::test_packages()?;
    host::packages(&[
        ("bind9-dnsutils", "/usr/bin/dig"),
        ("curl", "/usr/bin/curl"),
        ("etcd-server", "/usr/bin/etcd"),
        ("iputils-ping", "/usr/bin/ping"),
        ("netcat-openbsd", "/usr/bin/nc.openbsd"),
    ])?;
    let kubectl = host::kubectl()?;
    run(cargo()
        .current_dir(root()?)
        .args(["run", "--locked", "--package", "tiphys-testkit", "--example", "conformance", "--", focus])
        .env("TIPHYS_BINARY", binary)
        .env("KUBECTL", kubectl))
}

//! The first thing that a new user sees.

use std::process::Command;

use anyhow::{Result, ensure};
use tiphys_testkit::{Home, Programs, text};

#[test]
fn quickstart_shows_a_cluster_and_leaves_nothing_behind() -> Result<()> {
    let programs = Programs::find()?;
    let home = Home::new(&programs.tiphys)?;
    let data = home.data_dir();
    let said = text(Command::new(&programs.tiphys).args(["quickstart", "--data-dir"]).arg(&data).args([
        "--service-cidr",
        "10.61.0.0/17",
        "--pod-cidr",
        "10.61.128.0/17",
    ]))?;
    // Two replicas through the cluster IP, two through the name, and the Job's own visits.
    let answers = said.matches("x Ahoy from the Argo (from web-").count();
    ensure!(answers >= 5, "{said}");
    ensure!(said.contains("job visitor: complete"), "{said}");
    ensure!(!data.exists(), "the data directory is still there");
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    ensure!(!mounts.contains(&*data.to_string_lossy()), "mounts are left: {mounts}");
    Ok(())
}

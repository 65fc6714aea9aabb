//! Upstream's own conformance suite, against a cluster of ours: of Kubernetes 1.20.2, or of a newer release if that is the
//! `e2e.test` that is found first. It tells its cases and images itself.
//!
//! `cargo xtask conformance [FOCUS]` runs it: every case but those of [`LATER`], or those of them that the regular
//! expression finds. It prints a table, and fails if a case fails that is not in [`CHANGED`].

mod images;
mod suite;

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use suite::Suite;
use tiphys_testkit::Cluster;

/// A case that is known not to pass.
struct Known {
    /// How the version of the suite begins.
    suite: &'static str,
    /// Words in the case's name.
    words: &'static str,
    why: &'static str,
}

const fn known(suite: &'static str, words: &'static str, why: &'static str) -> Known {
    Known { suite, words, why }
}

/// Cases that need what is not built yet, or what is not there. They are not run.
const LATER: [Known; 7] = [
    known("v1.", "should rollback without unnecessary restarts", "a second node"),
    known("v1.20.", "validates basic preemption", "a second node"),
    known("v1.20.", "validates lower priority pod preemption", "a second node"),
    known("v1.", "ServiceCIDR and IPAddress API should support ServiceCIDR", "a second node"),
    known("v1.", "ServiceCIDR and IPAddress API should support IPAddress", "a second node"),
    known("v1.", "Conformance Tests should have at least two untainted nodes", "a second node"),
    known("v1.", "ImageVolume should succeed with pod and pull policy of Always", "upstream's registry"),
];

/// Cases that assert what upstream itself has changed by 1.37.
const CHANGED: [Known; 7] = [
    known(
        "v1.20.",
        "ServiceAccounts should mount an API token into pods",
        "no Secrets are made for tokens since 1.24",
    ),
    known(
        "v1.20.",
        "ServiceAccounts should allow opting out of API token automount",
        "no Secrets are made for tokens since 1.24",
    ),
    known(
        "v1.20.",
        "works for CRD with validation schema",
        "kubectl lets the server tell unknown fields, by their whole path",
    ),
    known(
        "v1.20.",
        "Events API should ensure that an event can be fetched",
        "an event's note cannot be changed any more",
    ),
    known(
        "v1.20.",
        "should update pod when spec was updated and update strategy is RollingUpdate",
        "a revision's template has no creationTimestamp of null since 1.34",
    ),
    known("v1.20.", "Kubectl describe should check if", "kubectl shows no version of kube-proxy any more"),
    known(
        "v1.20.",
        "Kubectl version should check is all data is printed",
        "kubectl version prints less by now",
    ),
];

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    all: usize,
    later: usize,
    passed: usize,
    failed: usize,
}

fn main() -> Result<()> {
    let focus = std::env::args().nth(1).unwrap_or_default();
    let suite = Suite(found("e2e.test")?);
    let version = suite.version()?;
    let later: Vec<_> = LATER.iter().filter(|known| version.starts_with(known.suite)).collect();
    let mut table: BTreeMap<String, Row> = BTreeMap::new();
    for name in suite.cases()? {
        let row = table.entry(group(&name)).or_default();
        row.all += 1;
        let known = later.iter().find(|known| name.contains(known.words));
        row.later += usize::from(known.is_some());
        known.inspect(|known| println!("not run, for want of {}: {name}", known.why));
    }

    let dir = tempfile::tempdir().context("making a directory")?;
    let archive = dir.path().join("images.tar");
    let names = suite.images()?;
    images::write(&archive, &names, found)?;
    // The sample server, which runs in a pod, asks the API whom to believe.
    let cluster = Cluster::start_for_pods(177)?;
    cluster.tiphys(["image".as_ref(), "import".as_ref(), archive.as_os_str()])?;
    images::write_busybox(&archive, &names)?;
    cluster.tiphys(["image".as_ref(), "import".as_ref(), archive.as_os_str()])?;
    let skip: Vec<_> = later.iter().map(|known| known.words).collect();
    let kubectl = std::env::var_os("KUBECTL").context("KUBECTL is not set; use `cargo xtask conformance`")?;
    let mut run = Command::new(&suite.0);
    run.arg("-kubeconfig").arg(cluster.data_dir().join("admin.kubeconfig"));
    run.args(["-provider", "skeleton", "-num-nodes", "1", "-disable-log-dump", "-kubectl-path"]).arg(kubectl);
    // The old one would wait for a Secret with a token beside each account, and no server makes those since 1.24.
    run.arg("-e2e-verify-service-account=false");
    run.args(["-ginkgo.focus", &format!(r"({focus}).*\[Conformance\]"), "-ginkgo.skip", &skip.join("|")]);
    let mut unexpected = Vec::new();
    for (name, passed) in suite.run(&mut run, |ended| eprintln!("{ended}"))? {
        let row = table.entry(group(&name)).or_default();
        row.passed += usize::from(passed);
        row.failed += usize::from(!passed);
        let changed = |known: &&Known| version.starts_with(known.suite) && name.contains(known.words);
        match CHANGED.iter().find(changed) {
            Some(known) if !passed => println!("changed: {name}: {}", known.why),
            None if !passed => unexpected.push(name),
            _ => {}
        }
    }
    println!("| cases of {version} | all | need later work | passed | failed |\n|---|---|---|---|---|");
    for (name, row) in &table {
        println!("| {name} | {} | {} | {} | {} |", row.all, row.later, row.passed, row.failed);
    }
    ensure!(unexpected.is_empty(), "failed:\n{}", unexpected.join("\n"));
    Ok(())
}

/// A program or file of upstream's, in the directories of `REFERENCE_PATH`.
fn found(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("REFERENCE_PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|dir| dir.join(name));
    places.find(|place| place.exists()).with_context(|| {
        format!("no directory of REFERENCE_PATH has {name}; CONTRIBUTING.md says how to make it")
    })
}

/// The group of upstream's that a case belongs to.
fn group(name: &str) -> String {
    name.trim_start_matches('[').split(']').next().unwrap_or_default().to_owned()
}

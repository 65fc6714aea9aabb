//! Upstream's own conformance suite, against a cluster of ours: of Kubernetes 1.20.2, or of a newer release if that is the
//! `e2e.test` that is found first. It tells its cases and images itself.
//!
//! `cargo xtask conformance [FOCUS]` runs it: every case but those of [`LATER`], or those of them that the regular
//! expression finds; those of [`TWO_NODES`] after the others, against a second cluster. It prints a table, and fails if
//! a case fails that is not in [`CHANGED`].

mod images;
mod suite;

use std::{collections::BTreeMap, fs::File, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use regex::Regex;
use suite::Suite;
use tiphys_testkit::{Cluster, Pair};

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

/// Words in the names of cases that need a second node.
const TWO_NODES: [&str; 5] = [
    "should rollback without unnecessary restarts",
    "validates basic preemption",
    "validates lower priority pod preemption",
    "ServiceCIDR and IPAddress API",
    "should have at least two untainted nodes",
];

/// Cases that need what is not built yet, or what is not there. They are not run.
const LATER: [Known; 1] =
    [known("v1.", "ImageVolume should succeed with pod and pull policy of Always", "upstream's registry")];

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
    let asked_for = Regex::new(&focus).context("reading which cases are to run")?;
    let suite = Suite(found("e2e.test")?);
    let version = suite.version()?;
    let later: Vec<_> = LATER.iter().filter(|known| version.starts_with(known.suite)).collect();
    let mut table: BTreeMap<String, Row> = BTreeMap::new();
    let (mut on_one, mut on_two) = (0, Vec::new());
    for name in suite.cases()? {
        let row = table.entry(group(&name)).or_default();
        row.all += 1;
        match later.iter().find(|known| name.contains(known.words)) {
            Some(known) => {
                row.later += 1;
                println!("not run, for want of {}: {name}", known.why);
            }
            None if !asked_for.is_match(&name) => {}
            None if TWO_NODES.iter().any(|words| name.contains(words)) => on_two.push(regex::escape(&name)),
            None => on_one += 1,
        }
    }

    let dir = tempfile::tempdir().context("making a directory")?;
    let archives = ["images.tar", "busybox.tar"].map(|name| dir.path().join(name));
    let names = suite.images()?;
    images::write(&archives[0], &names, found)?;
    images::write_busybox(&archives[1], &names)?;
    let furnish = |cluster: &Cluster| {
        let import = |archive: &PathBuf| {
            cluster.tiphys(["image".as_ref(), "import".as_ref(), archive.as_os_str()]).map(drop)
        };
        archives.iter().try_for_each(import)
    };
    let log = File::create("conformance.log").context("making conformance.log")?;
    let mut ended = Vec::new();
    if on_one > 0 {
        // The sample server, which runs in a pod, asks the API whom to believe.
        let cluster = Cluster::start_for_pods(RANGE)?;
        furnish(&cluster)?;
        let skip = later.iter().map(|known| known.words).chain(TWO_NODES).collect::<Vec<_>>().join("|");
        let cases = format!(r"({focus}).*\[Conformance\]");
        ended = run(&suite, &log, &cluster, 1, &["-ginkgo.focus", &cases, "-ginkgo.skip", &skip])?;
    }
    if !on_two.is_empty() {
        let pair = Pair::start(RANGE)?.context("two nodes share an etcd, and there is none")?;
        furnish(&pair.first)?;
        furnish(&pair.second)?;
        ended.extend(run(&suite, &log, &pair.first, 2, &["-ginkgo.focus", &on_two.join("|")])?);
    }
    let mut unexpected = Vec::new();
    for (name, passed) in ended {
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

/// Tells the clusters' addresses from others'.
const RANGE: u8 = 177;

/// Runs the cases that `which` says against a cluster of so many nodes.
fn run(
    suite: &Suite,
    log: &File,
    cluster: &Cluster,
    nodes: usize,
    which: &[&str],
) -> Result<Vec<(String, bool)>> {
    let kubectl = std::env::var_os("KUBECTL").context("KUBECTL is not set; use `cargo xtask conformance`")?;
    let mut run = Command::new(&suite.0);
    run.arg("-kubeconfig").arg(cluster.kubeconfig()).arg("-kubectl-path").arg(kubectl);
    run.args(["-provider", "skeleton", "-disable-log-dump", "-num-nodes", &nodes.to_string()]);
    // The old one would wait for a Secret with a token beside each account, and no server makes those since 1.24.
    run.arg("-e2e-verify-service-account=false").args(which);
    suite.run(&mut run, log, |ended| eprintln!("{ended}"))
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

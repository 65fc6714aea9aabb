//! Upstream's own conformance suite, of Kubernetes 1.20.2, against a cluster of ours.
//!
//! `cargo xtask conformance [FOCUS]` runs it: every case but those of [`LATER`], or those of them that the regular
//! expression finds. It prints a table, and fails if a case fails that is not in [`CHANGED`].

mod images;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tiphys_testkit::{Cluster, image::Image};

/// Words in the names of cases that need what is not built yet.
const LATER: [(&str, &str); 3] = [
    ("should rollback without unnecessary restarts", "a second node"),
    ("validates basic preemption", "a second node"),
    ("validates lower priority pod preemption", "a second node"),
];

/// What cases assert that upstream itself has changed by 1.37.
const CHANGED: [(&str, &str); 6] = [
    ("ServiceAccounts should mount an API token into pods", "no Secrets are made for tokens since 1.24"),
    (
        "ServiceAccounts should allow opting out of API token automount",
        "no Secrets are made for tokens since 1.24",
    ),
    (
        "works for CRD with validation schema",
        "kubectl lets the server tell unknown fields, by their whole path",
    ),
    ("Events API should ensure that an event can be fetched", "an event's note cannot be changed any more"),
    ("Kubectl describe should check if", "kubectl shows no version of kube-proxy any more"),
    ("Kubectl version should check is all data is printed", "kubectl version prints less by now"),
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
    let suite = found("e2e.test")?;
    let mut table: BTreeMap<String, Row> = BTreeMap::new();
    let dir = tempfile::tempdir().context("making a directory")?;
    let mut listing = Command::new(&suite);
    listing.args(["-ginkgo.dryRun", "-ginkgo.focus", r"\[Conformance\]"]);
    for (name, _) in cases(&mut listing, dir.path(), |_| {})? {
        let row = table.entry(group(&name)).or_default();
        row.all += 1;
        row.later += usize::from(LATER.iter().any(|(words, _)| name.contains(words)));
    }

    let archive = dir.path().join("images.tar");
    images::write(&archive, found)?;
    // The sample server, which runs in a pod, asks the API whom to believe.
    let cluster = Cluster::start_for_pods(177)?;
    cluster.tiphys(["image".as_ref(), "import".as_ref(), archive.as_os_str()])?;
    // Some tests look for the words of its own shell.
    cluster.import(&Image::busybox(&["docker.io/library/busybox:1.29"], &["sh"]))?;
    let skip: Vec<_> = LATER.iter().map(|(words, _)| *words).collect();
    let kubectl = std::env::var_os("KUBECTL").context("KUBECTL is not set; use `cargo xtask conformance`")?;
    let mut run = Command::new(suite);
    run.arg("-kubeconfig").arg(cluster.data_dir().join("admin.kubeconfig"));
    run.args(["-provider", "skeleton", "-num-nodes", "1", "-disable-log-dump", "-kubectl-path"]).arg(kubectl);
    // It would wait for a Secret with a token beside each account, and no server makes those since 1.24.
    run.arg("-e2e-verify-service-account=false");
    run.args(["-ginkgo.focus", &format!(r"{focus}.*\[Conformance\]"), "-ginkgo.skip", &skip.join("|")]);
    let mut unexpected = Vec::new();
    for (name, passed) in cases(&mut run, dir.path(), |ended| eprintln!("{ended}"))? {
        let row = table.entry(group(&name)).or_default();
        row.passed += usize::from(passed);
        row.failed += usize::from(!passed);
        let changed = CHANGED.iter().find(|(words, _)| name.contains(words));
        match changed {
            Some((_, why)) if !passed => println!("changed: {name}: {why}"),
            None if !passed => unexpected.push(name),
            _ => {}
        }
    }
    println!("| cases of | all | need later work | passed | failed |\n|---|---|---|---|---|");
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

/// Runs the suite, tells of each case as it ends, and returns their names and whether they passed. All that the suite prints
/// goes to `conformance.log` in the working directory.
fn cases(suite: &mut Command, report: &Path, tell: impl Fn(&str)) -> Result<Vec<(String, bool)>> {
    let log = File::create("conformance.log").context("making conformance.log")?;
    suite.args(["-ginkgo.noColor", "-report-dir"]).arg(report);
    let mut child = suite
        .stdin(Stdio::null())
        .stderr(log.try_clone()?)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {suite:?}"))?;
    let mut log = std::io::LineWriter::new(log);
    let mut ended = Vec::new();
    for line in BufReader::new(child.stdout.take().context("the suite's output")?).split(b'\n') {
        let line = line.context("reading what the suite prints")?;
        let text = String::from_utf8_lossy(&line);
        std::io::Write::write_all(&mut log, format!("{text}\n").as_bytes())
            .context("writing conformance.log")?;
        let Some(message) = text.find(r#"{"msg":""#).map(|at| &text[at..]) else { continue };
        let Ok(Value::String(message)) = serde_json::from_str::<Value>(message).map(|m| m["msg"].clone())
        else {
            continue;
        };
        for (word, passed) in [("PASSED ", true), ("FAILED ", false)] {
            if let Some(name) = message.strip_prefix(word) {
                tell(&message);
                ended.push((name.to_owned(), passed));
            }
        }
    }
    // Its exit status says no more than its cases do.
    child.wait().context("waiting for the suite")?;
    ensure!(!ended.is_empty(), "the suite ran no case; see conformance.log");
    Ok(ended)
}

/// The group of upstream's that a case belongs to.
fn group(name: &str) -> String {
    name.trim_start_matches('[').split(']').next().unwrap_or_default().to_owned()
}

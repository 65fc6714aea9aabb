//! The same requests to upstream's API server and to ours, and how the answers differ.
//!
//! `cargo xtask differential [REGEX]` runs it, or those files of `cases` that the regular expression finds. Both servers are
//! alone: without controllers and nodes, what they answer follows from what they were asked. What is no accident of a run
//! (uids, times, revisions, addresses that a server chose) and differs is listed in `differences.yaml` with the reason why ours
//! is right by 1.37. It fails if something else differs, and if what is listed as different on every run is not.

mod answer;
mod case;
mod compare;
mod rules;
mod servers;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use serde_json::Value;

use crate::{
    case::{Case, Variables},
    rules::Rules,
};

fn main() -> Result<()> {
    let focus = std::env::args().nth(1).unwrap_or_default();
    let focus = Regex::new(&focus).context("which files")?;
    // An error would mean that a provider is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // What was started ends with the work, also with that which is not finished.
    runtime.block_on(async {
        tokio::select! {
            done = run(&focus) => done,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    })
}

async fn run(focus: &Regex) -> Result<()> {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/differential"));
    let text =
        |name: PathBuf| std::fs::read_to_string(&name).with_context(|| format!("reading {}", name.display()));
    let mut rules = Rules::parse(&text(dir.join("differences.yaml"))?)?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir.join("cases"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let mut cases = Vec::new();
    for file in &files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if focus.is_match(&name) {
            cases.extend(Case::parse(&name, &text(file.clone())?)?);
        }
    }
    ensure!(!cases.is_empty(), "no file of cases has such a name");

    let (_reference, reference) = servers::reference().await?;
    let ours = servers::ours().await?;
    let (mut requests, mut alike, mut unlisted) = (0, 0, 0);
    for case in &cases {
        let mut variables = [Variables::of(case), Variables::of(case)];
        for server in [&reference, &ours] {
            case.prepare(server).await?;
        }
        for (number, step) in case.steps.iter().enumerate() {
            let mut seen = Vec::new();
            for (server, variables) in [&reference, &ours].into_iter().zip(&mut variables) {
                seen.push(
                    step.ask(server, variables).await.with_context(|| format!("asking {}", server.name))?,
                );
            }
            requests += 1;
            let id = format!("{}/{} {}", case.name, number + 1, step.ask);
            let mut unexplained: Vec<_> = compare::compare(&seen[0], &seen[1]);
            unexplained.retain(|difference| !rules.explain(&id, difference));
            alike += usize::from(unexplained.is_empty());
            unlisted += unexplained.len();
            for difference in unexplained {
                println!("{id}\n    {difference}");
            }
        }
    }
    println!(
        "{requests} requests in {} cases, of whose answers {alike} are alike but for {} differences with a reason:",
        cases.len(),
        rules.explained(),
    );
    rules.table().for_each(|(used, why)| println!("{used:>6} {why}"));
    ensure!(unlisted == 0, "{unlisted} differences are listed nowhere");
    if focus.as_str().is_empty() {
        let idle = rules.unused();
        ensure!(idle.is_empty(), "rules that explain nothing any more:\n{}", idle.join("\n"));
    }
    Ok(())
}

/// A map of names to JSON.
type Map = BTreeMap<String, Value>;

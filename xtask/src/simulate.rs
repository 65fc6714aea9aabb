//! The seeded simulation of the control plane (`crates/simulation`), and the bugs that it is shown to find.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::command::{cargo, root, run, target};

mod planted;

/// What a change must pass: so many seeds, the first few twice, begun within so many seconds.
const GATE: [&str; 5] = ["1", "10", "--twice=2", "--seconds=150", "--jobs=2"];
/// A planted bug that so many seeds do not find is not found.
const ENOUGH: u64 = 10;

/// Plays the seeds that a change must pass.
pub(crate) fn gate() -> Result<()> {
    let program = build(&root()?, &target()?)?;
    run(Command::new(program).arg("seeds").args(GATE))
}

/// `seeds FIRST COUNT …`, `trace SEED`, or `planted [NUMBER…]`.
pub(crate) fn simulate(words: &[String]) -> Result<()> {
    let Some((what, rest)) = words.split_first() else { return gate() };
    match what.as_str() {
        "seeds" => run(Command::new(build(&root()?, &target()?)?).arg("seeds").args(rest)),
        "trace" => run(Command::new(build(&root()?, &target()?)?).args(["run", "--trace"]).args(rest)),
        "planted" => find_planted(rest),
        other => bail!("{other} is none of seeds, trace, planted"),
    }
}

fn build(tree: &Path, target: &Path) -> Result<PathBuf> {
    let mut command = cargo();
    command.current_dir(tree).env("CARGO_TARGET_DIR", target);
    run(command.args(["build", "--locked", "--package", "tiphys-simulation"]))?;
    Ok(target.join("debug/tiphys-simulation"))
}

/// Plays seeds against a copy of the tree in which every bug of the table is planted, each asleep unless its number is in
/// the environment, so that one build serves for all. Cargo knows a crate by its place in the workspace, so the copy is built
/// in a directory of its own: it would take what was made of one tree for the other's.
fn find_planted(numbers: &[String]) -> Result<()> {
    let copy = target()?.join("planted");
    plant(&root()?, &copy)?;
    let program = build(&copy, &copy.join("target"))?;
    let mut missed = Vec::new();
    for (number, bug) in planted::BUGS.iter().enumerate() {
        if !numbers.is_empty() && !numbers.contains(&number.to_string()) {
            continue;
        }
        match find(&program, number)? {
            Some((seed, why)) => println!("{number}: {} found by seed {seed}: {why}", bug.what),
            None => {
                println!("{number}: {} NOT found by {ENOUGH} seeds", bug.what);
                missed.push(number);
            }
        }
    }
    ensure!(missed.is_empty(), "not found: {missed:?}");
    Ok(())
}

/// The first seed that fails with a bug, and why.
fn find(program: &Path, number: usize) -> Result<Option<(u64, String)>> {
    for seed in 1..=ENOUGH {
        let mut command = Command::new(program);
        command.args(["run", &seed.to_string()]).env(planted::SWITCH, number.to_string());
        let output = command.output().context("starting a run")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let why = said.lines().last().map_or_else(|| output.status.to_string(), str::to_owned);
            return Ok(Some((seed, why.chars().take(200).collect())));
        }
    }
    Ok(None)
}

/// Makes the copy. What is in it already and is the same keeps its time, so that cargo knows it again.
fn plant(tree: &Path, copy: &Path) -> Result<()> {
    fs::create_dir_all(copy).with_context(|| format!("making {}", copy.display()))?;
    for part in ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "crates", "xtask"] {
        mirror(&tree.join(part), &copy.join(part), tree)?;
    }
    Ok(())
}

fn mirror(from: &Path, to: &Path, tree: &Path) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
        for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
            let name = entry?.file_name();
            mirror(&from.join(&name), &to.join(&name), tree)?;
        }
        return Ok(());
    }
    let mut bytes = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    for (number, bug) in planted::BUGS.iter().enumerate() {
        if from == tree.join(bug.file) {
            let text = String::from_utf8(bytes).context("a source file is text")?;
            ensure!(text.matches(bug.right).count() == 1, "{} is not once in {}", bug.right, bug.file);
            bytes = text.replace(bug.right, &bug.asleep(number)).into_bytes();
        }
    }
    if fs::read(to).ok().as_ref() != Some(&bytes) {
        fs::write(to, bytes).with_context(|| format!("writing {}", to.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_place_to_be_planted_in() {
        for planted::Bug { what, file, right, .. } in planted::BUGS {
            let text = fs::read_to_string(root().unwrap().join(file)).unwrap();
            assert_eq!(text.matches(right).count(), 1, "{what}: {right} in {file}");
        }
    }
}

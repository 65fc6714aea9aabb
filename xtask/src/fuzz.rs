//! libFuzzer on what reads clients' input (`crates/fuzz`).

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    binary,
    command::{cargo, output, root, run, target},
};

/// How long each target runs, if nothing else is said.
const SECONDS: u64 = 10;
/// What a change must pass is the same for everybody: so many inputs from one seed, begun with what is committed. Chance
/// may find something in `cargo xtask fuzz`, not in somebody else's change.
const GATE: [&str; 2] = ["-seed=1", "-runs=50000"];
/// Beyond this, a slow host has tried enough.
const GATE_SECONDS: u64 = 20;

/// Tells libFuzzer which branches an input takes and what it compares. That needs no nightly compiler, which a new machine lacks.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// What an input may take before it counts as a bug, and how large it may be.
const BOUNDS: [&str; 3] = ["-timeout=10", "-rss_limit_mb=1024", "-max_len=8192"];

/// Runs all targets as a change must pass them.
pub(crate) fn gate() -> Result<()> {
    let (program, corpus) = (build()?, root()?.join("crates/fuzz/corpus"));
    explore_all(&program, &corpus, targets(&corpus)?, GATE_SECONDS, &GATE)
}

/// The names of all targets.
fn targets(corpus: &Path) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for folder in std::fs::read_dir(corpus).with_context(|| format!("reading {}", corpus.display()))? {
        all.push(folder?.file_name().to_string_lossy().into_owned());
    }
    all.sort_unstable();
    Ok(all)
}

/// Runs the named targets, or all: `words` are their names, `seconds=N` for each, and `input=FILE` to try
/// nothing but that.
pub(crate) fn fuzz(words: &[String]) -> Result<()> {
    let (mut names, mut seconds, mut input) = (Vec::new(), SECONDS, None);
    for word in words {
        match word.split_once('=') {
            Some(("seconds", n)) => seconds = n.parse().with_context(|| format!("no number: {word}"))?,
            Some(("input", file)) => input = Some(PathBuf::from(file)),
            Some(_) => bail!("{word} is neither seconds=N nor input=FILE"),
            None => names.push(word.clone()),
        }
    }
    let (program, corpus) = (build()?, root()?.join("crates/fuzz/corpus"));
    let all = targets(&corpus)?;
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        bail!("no target is named {unknown}; there are {}", all.join(", "));
    }
    let names = if names.is_empty() { all } else { names };
    if let Some(input) = input {
        return names.iter().try_for_each(|name| run(libfuzzer(&program, name).args(BOUNDS).arg(&input)));
    }
    explore_all(&program, &corpus, names, seconds, &[])
}

fn explore_all(
    program: &Path,
    corpus: &Path,
    names: Vec<String>,
    seconds: u64,
    options: &[&str],
) -> Result<()> {
    let (queue, failures) = (Mutex::new(names.into_iter()), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(name) = next(&queue) {
                    if let Err(error) = explore(program, corpus, &name, seconds, options) {
                        failures.lock().unwrap_or_else(|e| e.into_inner()).push(error);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_else(|e| e.into_inner());
    failures.iter().for_each(|failure| eprintln!("{failure:#}"));
    ensure!(failures.is_empty(), "{} targets found something", failures.len());
    Ok(())
}

fn next(queue: &Mutex<std::vec::IntoIter<String>>) -> Option<String> {
    queue.lock().unwrap_or_else(|e| e.into_inner()).next()
}

/// Lets one target look for new inputs, from the committed ones and, without options, those found before.
fn explore(program: &Path, corpus: &Path, name: &str, seconds: u64, options: &[&str]) -> Result<()> {
    let home = target()?.join("fuzzed").join(name);
    let crashes = home.join("crashes");
    let found = if options.is_empty() {
        home.join("found")
    } else {
        let gate = home.join("gate");
        if gate.exists() {
            std::fs::remove_dir_all(&gate).with_context(|| format!("removing {}", gate.display()))?;
        }
        gate
    };
    for folder in [&found, &crashes] {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let (log, mut prefix) = (home.join("log"), std::ffi::OsString::from("-artifact_prefix="));
    prefix.push(crashes.join(""));
    let mut fuzzer = libfuzzer(program, name);
    fuzzer.args(BOUNDS).args(options).arg(format!("-max_total_time={seconds}")).arg(prefix);
    fuzzer.arg(&found).arg(corpus.join(name));
    fuzzer.stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
    let ended = run(&mut fuzzer);
    let text = std::fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    ended.with_context(|| {
        let told = lines[lines.len().saturating_sub(40)..].join("\n");
        format!(
            "{told}\n{name} broke; the input is in {}. Try it again with `cargo xtask fuzz {name} input=FILE`, and put \
             it into crates/fuzz/corpus/{name} when it is mended",
            crashes.display()
        )
    })?;
    eprintln!("{name}: {}", lines.last().unwrap_or(&"no word"));
    Ok(())
}

fn libfuzzer(program: &Path, name: &str) -> Command {
    let mut command = Command::new(program);
    command.env("TIPHYS_FUZZ_TARGET", name);
    command
}

fn build() -> Result<PathBuf> {
    let mut build = cargo();
    build
        .current_dir(root()?)
        .args([
            "build",
            "--profile",
            "fuzz",
            "--locked",
            "--package",
            "tiphys-fuzz",
            "--features",
            "libfuzzer",
        ])
        .args(["--bin", "fuzz", "--target", &binary::triple()?])
        .env("RUSTFLAGS", COVERAGE);
    run(&mut build)?;
    let built = output(build.arg("--message-format=json")).context("asking cargo for the fuzzer")?;
    let mut messages = built.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let path = messages.find_map(|message| message.get("executable")?.as_str().map(PathBuf::from));
    path.context("cargo names no executable of the fuzzer")
}

//! Many seeds, each in a process of its own.

use std::{
    process::{Command, ExitCode, Output, Stdio},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use parking_lot::Mutex;

#[derive(clap::Args)]
pub(crate) struct Seeds {
    /// The first seed.
    first: u64,
    /// How many.
    count: u64,
    /// Of so many, the first ones, the hashes of two runs are compared.
    #[arg(long, default_value_t = 0)]
    twice: u64,
    /// Begin no seed after so many seconds.
    #[arg(long, default_value_t = u64::MAX)]
    seconds: u64,
    /// How many at a time; as many as there are processors, if nothing is said.
    #[arg(long)]
    jobs: Option<usize>,
    /// End with the first that fails.
    #[arg(long)]
    until_failure: bool,
}

/// What came of one seed: the last line of its output, and why it failed.
struct Played {
    line: String,
    failure: Option<String>,
}

fn play(seed: u64) -> Result<Played> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut command = Command::new(program);
    command.args(["run", &seed.to_string()]).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().context("starting a run")?;
    let last = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().last().unwrap_or_default().to_owned();
    let failure = (!status.success()).then(|| match last(&stderr) {
        text if text.is_empty() => status.to_string(),
        text => text,
    });
    Ok(Played { line: last(&stdout), failure })
}

impl Seeds {
    /// Plays them; the exit code tells whether all held.
    pub(crate) fn play(self) -> Result<ExitCode> {
        let begun = Instant::now();
        let jobs = match self.jobs {
            Some(jobs) => jobs.max(1),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let (next, played) = (AtomicU64::new(0), AtomicU64::new(0));
        let failures = Mutex::new(Vec::new());
        let work = || -> Result<()> {
            while begun.elapsed() < Duration::from_secs(self.seconds) {
                let number = next.fetch_add(1, Relaxed);
                let some = !failures.lock().is_empty();
                if number >= self.count || (self.until_failure && some) {
                    break;
                }
                let seed = self.first + number;
                let Played { line, mut failure } = play(seed)?;
                println!("{line}");
                if number < self.twice && failure.is_none() {
                    let again = play(seed)?.line;
                    if again != line {
                        failure = Some(format!("seed {seed} is not repeatable: {line}, then {again}"));
                    }
                }
                played.fetch_add(1, Relaxed);
                if let Some(why) = failure {
                    eprintln!("{why}");
                    failures.lock().push(seed);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| match worker.join() {
                Ok(done) => done,
                Err(_) => anyhow::bail!("a worker panicked"),
            })
        })?;
        let failures = failures.into_inner();
        println!(
            "{} seeds in {} s, {} failed",
            played.load(Relaxed),
            begun.elapsed().as_secs(),
            failures.len()
        );
        if failures.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        println!("failed: {failures:?}; `cargo xtask simulate trace SEED` shows every step of one");
        Ok(ExitCode::FAILURE)
    }
}

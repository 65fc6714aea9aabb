//! The whole control plane under one simulated clock, network and disk, played from a seed.
//!
//! A run is one process of one thread. The API server with its store, all controllers and the scheduler are the product's
//! own; machines and their kubelets are simulated ([`machine`]), and users give them work ([`users`]). The seed decides
//! everything that chance decides elsewhere: delays, faults, the users' wishes, names and UIDs. [`laws`] judges every
//! transaction of the store. Faults stop after a while, and then everything has to come to rest as it is wanted.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use clap::Parser;

mod api;
mod chance;
mod cluster;
mod disk;
mod laws;
mod machine;
mod meter;
mod neighbour;
mod network;
mod run;
mod seams;
mod seeds;
mod trace;
mod users;

#[derive(Parser)]
#[command(about)]
enum Command {
    /// Play one seed in this process. What it prints last is the hash of its trace.
    Run {
        seed: u64,
        /// Print every step.
        #[arg(long)]
        trace: bool,
        /// Let the product's rooms tell what they do, as `TIPHYS_LOG` says.
        #[arg(long)]
        log: bool,
        /// No faults: only delays.
        #[arg(long)]
        calm: bool,
    },
    /// Play many seeds, each in a process of its own, and tell which fail.
    Seeds(seeds::Seeds),
}

fn main() -> Result<ExitCode> {
    match Command::parse() {
        Command::Run { seed, trace, log, calm } => {
            seams::begin(seed).context("bounding how long the run may take")?;
            if log {
                let filter = tracing_subscriber::EnvFilter::from_env("TIPHYS_LOG");
                tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
            }
            let trace = Arc::new(trace::Trace::new(trace));
            let runtime = seams::runtime()?;
            if let Err(error) = runtime.block_on(run::run(seed, calm, Arc::clone(&trace))) {
                trace.fail(format!("{error:#}"));
            }
            let (steps, hash) = trace.sum();
            let failure = trace.failure();
            let lasted = Duration::as_secs(&seams::elapsed());
            println!("seed {seed}: {steps} steps in {lasted} simulated seconds, hash {hash:016x}");
            let Some((why, last)) = failure else { return Ok(ExitCode::SUCCESS) };
            last.iter().for_each(|step| eprintln!("{step}"));
            eprintln!("seed {seed} failed: {why}");
            Ok(ExitCode::FAILURE)
        }
        Command::Seeds(seeds) => seeds.play(),
    }
}

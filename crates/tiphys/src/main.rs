//! The binary: reads flags and wires the rooms together.

mod addresses;
mod allocator;
mod cluster;
mod component;
mod control;
mod data_dir;
mod demo;
mod down;
mod election_flags;
mod files;
mod follow;
mod image;
mod initialize;
mod kernel;
mod log;
mod loops;
mod memory;
mod node_flags;
mod permission_flags;
mod pod_network;
mod pod_range;
mod quickstart;
mod remote;
mod settings;
mod storage;
mod token_flags;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

#[derive(Parser)]
#[command(name = "tiphys", version, about = "A whole Kubernetes cluster in one program")]
struct Cli {
    #[command(flatten)]
    log: log::Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the cluster in the foreground.
    ///
    /// Ctrl-C stops the server and leaves pods running, as a crash would; the next `up` takes them over.
    Up(Box<settings::Settings>),
    /// Run the API server alone: another one over the etcd of a cluster, whose `pki` it shares, or one without nodes.
    Apiserver(Box<settings::Settings>),
    /// Run the control loops alone, for the API that a kubeconfig leads to. Several elect which of them works.
    ControllerManager(Box<component::ControllerManagerFlags>),
    /// Run the scheduler alone. Several elect which of them works.
    Scheduler(Box<component::SchedulerFlags>),
    /// Stop the cluster and remove everything that it made, except its data: also after a crash.
    Down(data_dir::Flag),
    /// Start a cluster, run an example application on it, show both, and clean up.
    Quickstart(quickstart::Arguments),
    /// Import, list, pull and remove the images of a cluster, running or not.
    Image(image::Arguments),
    /// Print the versions of this program and of the API that it serves.
    Version,
    /// The programs of the example application.
    #[command(hide = true, subcommand)]
    Demo(demo::Command),
    /// The process beside each pod; started by the runtime.
    #[command(hide = true)]
    Shim { pod: std::ffi::OsString },
}

fn main() -> ExitCode {
    memory::settle();
    // Before anything else: a shim must have one thread, and is worth having little memory.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|command| command == "shim") {
        return tiphys_runtime::shim::main(arguments);
    }
    let Cli { command, log } = Cli::parse();
    log.init();
    let result = match command {
        Command::Up(settings) => up::run(*settings, cluster::Rooms::All),
        Command::Apiserver(settings) => up::run(*settings, cluster::Rooms::Api),
        Command::ControllerManager(flags) => component::controller_manager(*flags),
        Command::Scheduler(flags) => component::scheduler(*flags),
        Command::Down(flag) => down::run(&flag),
        Command::Quickstart(arguments) => quickstart::run(arguments),
        Command::Demo(command) => demo::run(command),
        Command::Image(arguments) => image::run(arguments),
        Command::Version => {
            println!("tiphys {} (Kubernetes {})", env!("CARGO_PKG_VERSION"), cluster::KUBERNETES);
            Ok(())
        }
        Command::Shim { pod } => return tiphys_runtime::shim::main([pod]),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tiphys: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes in one line, each once: some tell their cause themselves.
fn told(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut line, cause| {
        let cause = cause.to_string();
        if !line.ends_with(&cause) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&cause);
        }
        line
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_cause_is_told_once() {
        let disk = anyhow::anyhow!("no space left").context("writing: no space left").context("starting");
        assert_eq!(super::told(&disk), "starting: writing: no space left");
        assert_eq!(super::told(&anyhow::anyhow!("a").context("b")), "b: a");
    }
}

//! `tiphys down`: the end of a cluster.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use tiphys_network::Instance;

use crate::data_dir::{DataDir, Flag};

/// How long a server may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn run(flag: &Flag) -> Result<()> {
    let Some(data) = DataDir::find(flag)? else {
        println!("there is no cluster in {}", flag.data_dir.display());
        return Ok(());
    };
    stop_server(&data)?;
    let _lock = data.lock()?;
    remove(&data)?;
    println!("removed everything that the cluster in {} had made; its data stays", data.path().display());
    Ok(())
}

fn stop_server(data: &DataDir) -> Result<()> {
    let Some(pid) = data.holder()? else { return Ok(()) };
    kill(pid, Signal::SIGTERM).with_context(|| format!("stopping the server, process {pid}"))?;
    let begun = std::time::Instant::now();
    let mut killed = false;
    while data.holder()?.is_some() {
        if begun.elapsed() > PATIENCE && !killed {
            kill(pid, Signal::SIGKILL).with_context(|| format!("killing the server, process {pid}"))?;
            killed = true;
        }
        ensure!(
            begun.elapsed() < 2 * PATIENCE,
            "the server, process {pid}, does not end; it holds {}",
            data.path().display()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Removes every kernel object of the cluster. All steps are tried; the first failure is told.
pub(crate) fn remove(data: &DataDir) -> Result<()> {
    let instance: Instance = data.instance().parse().context("the cluster's instance")?;
    let pods = tiphys_runtime::cleanup(&data.runtime(), &data.instance()).context("removing pods");
    let node = tiphys_node::Config::new("", data.node(), &data.pods_cgroup());
    let volumes = tiphys_node::remove_leftovers(&node).context("removing volumes and cgroups");
    let network = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the async runtime")
        .and_then(|runtime| {
            runtime.block_on(tiphys_network::cleanup(instance)).context("removing the network")
        });
    pods.and(volumes).and(network)
}

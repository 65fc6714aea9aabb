//! What a cluster costs that has nothing to do.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};
use tiphys_testkit::examples;

use crate::{
    objects,
    side::Side,
    table::{Goal, Measure, measure as named},
};

/// Until what a start or a rollout has stirred up has settled.
const SETTLE: Duration = Duration::from_secs(15);
const WATCHED: Duration = Duration::from_secs(20);

/// Applies the example of the quickstart and waits until its Deployment runs.
pub(crate) async fn run_example(side: &dyn Side, client: &Client) -> Result<()> {
    side.import_example()?;
    let path = examples().join("quickstart.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    objects::apply(client, &text).await?;
    let api: Api<Deployment> = Api::namespaced(client.clone(), "quickstart");
    for _ in 0..600 {
        let status = api.get("web").await?.status.unwrap_or_default();
        if status.ready_replicas == Some(2) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bail!("the example does not get ready on {}", side.name())
}

pub(crate) async fn measure(side: &dyn Side, tell: &mut impl FnMut(Measure, f64)) -> Result<()> {
    tokio::time::sleep(SETTLE).await;
    let processes = side.processes()?;
    let ours = [&processes.servers[..], &processes.shims, &processes.pauses].concat();
    let before = cpu_ticks(&ours)?;
    tokio::time::sleep(WATCHED).await;
    let ticks = cpu_ticks(&ours)?.saturating_sub(before);
    let servers = memory(&processes.servers)?;
    let pods = memory(&processes.shims)? + memory(&processes.pauses)?;
    if side.has_node() {
        tell(
            named("memory (PSS), cluster idle with the example, shims included", "MB", Goal::Under(64.)),
            servers + pods,
        );
        tell(named("of it the pods' shims and pauses", "MB", Goal::None), pods);
        // A pod has one pause; some runtimes share a shim among pods.
        tell(
            named("one pod's own overhead (PSS of shim and pause)", "MB", Goal::Under(2.)),
            pods / processes.pauses.len().max(1) as f64,
        );
    }
    tell(named("of it the servers", "MB", Goal::None), servers);
    tell(
        named("CPU of the idle cluster, of a core, over 20 s", "%", Goal::Under(1.)),
        ticks as f64 / ticks_a_second()? / WATCHED.as_secs_f64() * 100.,
    );
    Ok(())
}

/// The processes' proportional set size, in MB.
pub(crate) fn memory(pids: &[u32]) -> Result<f64> {
    let mut kib = 0.;
    for pid in pids {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let pss = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
        kib += pss.trim().trim_end_matches(" kB").parse::<f64>().context("reading the Pss")?;
    }
    Ok(kib * 1024. / 1e6)
}

/// What the processes have used of processors so far, in clock ticks.
fn cpu_ticks(pids: &[u32]) -> Result<u64> {
    let mut ticks = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/stat");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        // The name may hold anything; behind its bracket, user and system time are the 12th and 13th field.
        let (_, fields) = text.rsplit_once(')').context("a stat without a name")?;
        let times = fields.split_whitespace().skip(11).take(2);
        ticks += times.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(ticks)
}

fn ticks_a_second() -> Result<f64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
    Ok(ticks.context("the length of a clock tick")? as f64)
}

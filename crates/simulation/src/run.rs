//! The course of one run: calm, faults, calm again until all is at rest.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tiphys_apiserver::identity::Component;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    chance::Chance,
    cluster::{Cluster, Process},
    laws::Laws,
    machine::Machine,
    network::Network,
    trace::Trace,
    users::User,
};

const MACHINES: usize = 4;
/// How long users and faults are at work.
const TROUBLE: Duration = Duration::from_secs(240);
/// By then everything must be at rest: a key that failed often waits a quarter of an hour.
const REST: Duration = Duration::from_secs(1800);
/// What is at rest stays so for this long.
const STAYS: Duration = Duration::from_secs(20);

/// Plays a seed; what it finds is in the trace.
///
/// # Errors
/// The simulation itself could not go on.
pub(crate) async fn run(seed: u64, calm: bool, trace: Arc<Trace>) -> Result<()> {
    let network = Network::new(seed, Arc::clone(&trace));
    let laws = Laws::new(Arc::clone(&trace));
    laws.know(&network);
    let mut cluster = Cluster::new(seed, Arc::clone(&trace), network, laws)?;
    tokio::select! {
        biased;
        () = trace.failed() => Ok(()),
        played = play(seed, calm, &mut cluster) => played,
    }
}

async fn play(seed: u64, calm: bool, cluster: &mut Cluster) -> Result<()> {
    let chance = Arc::new(Chance::new(seed, "course"));
    cluster.start_server().await?;
    cluster.start_controllers();
    cluster.start_scheduler();
    let machines: Vec<_> = (0..MACHINES).map(|number| Machine::new(seed, number, cluster)).collect();
    let mut kubelets: Vec<_> = machines.iter().map(|machine| Some(machine.start(cluster))).collect();
    let life = CancellationToken::new();
    let user = |name: &str| User {
        client: cluster.client(name, Component::ApiServer, &life),
        chance: Arc::new(Chance::new(seed, name)),
        trace: Arc::clone(&cluster.trace),
    };
    let (actor, meddler) = (user("user"), user("meddler"));
    sleep(Duration::from_secs(5)).await;
    let faults = async {
        if calm {
            return Ok(());
        }
        cluster.set_faulty(true);
        let end = Instant::now() + TROUBLE;
        while Instant::now() < end {
            sleep(chance.millis(500, 20_000)).await;
            fault(&chance, cluster, &machines, &mut kubelets, &meddler).await?;
        }
        cluster.set_faulty(false);
        cluster.trace.step(format_args!("! faults stop"));
        anyhow::Ok(())
    };
    let ((), faults) = tokio::join!(actor.act(TROUBLE), faults);
    faults?;
    settle(cluster).await;
    Ok(())
}

/// Something breaks, for a while or for a moment.
async fn fault(
    chance: &Chance,
    cluster: &mut Cluster,
    machines: &[Arc<Machine>],
    kubelets: &mut [Option<Process>],
    meddler: &User,
) -> Result<()> {
    let at = chance.index(machines.len());
    let machine = &machines[at];
    match chance.below(14) {
        0 | 1 => cluster.crash_server().await?,
        2 | 3 => {
            cluster.stop_controllers();
            sleep(chance.millis(100, 8000)).await;
            cluster.start_controllers();
        }
        4 => {
            cluster.stop_scheduler();
            sleep(chance.millis(100, 8000)).await;
            cluster.start_scheduler();
        }
        5 => {
            kubelets[at] = None;
            sleep(chance.millis(100, 20_000)).await;
            kubelets[at] = Some(machine.start(cluster));
        }
        6 => {
            kubelets[at] = None;
            machine.lose_power();
            sleep(chance.millis(1000, 90_000)).await;
            kubelets[at] = Some(machine.start(cluster));
        }
        7 => {
            cluster.trace.step(format_args!("! {} is cut off", machine.name));
            cluster.network.cut(&machine.name, true);
            sleep(chance.millis(1000, 120_000)).await;
            cluster.network.cut(&machine.name, false);
            cluster.trace.step(format_args!("! {} is back", machine.name));
        }
        8 | 9 => machine.upset(),
        10 | 11 => meddler.evict().await,
        _ => meddler.meddle().await,
    }
    Ok(())
}

/// Waits until everything is as it is wanted, and stays so.
async fn settle(cluster: &Cluster) {
    let end = Instant::now() + REST;
    let mut since = None;
    loop {
        let complaints = cluster.laws.unsettled();
        let now = Instant::now();
        if complaints.is_empty() {
            let since = *since.get_or_insert(now);
            if now.duration_since(since) >= STAYS {
                cluster.trace.step(format_args!("! {} objects are at rest", cluster.laws.count()));
                return;
            }
        } else {
            since = None;
            if now >= end {
                return cluster.trace.fail(format!("no rest: {}", complaints.join("; ")));
            }
        }
        sleep(Duration::from_secs(5)).await;
    }
}

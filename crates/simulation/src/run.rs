//! The course of one run: calm, faults, calm again until all is at rest.
//!
//! A seed has some kinds of faults and not the others: what one kind excuses or hides comes to light in a seed without it.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tiphys_apiserver::identity::Component;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    chance::Chance,
    cluster::{CANDIDATES, Cluster, Process, controllers},
    laws::Laws,
    machine::Machine,
    neighbour::Away,
    network::Network,
    seams,
    trace::Trace,
    users::User,
};

const MACHINES: usize = 4;
/// How long users and faults are at work.
const TROUBLE: Duration = Duration::from_secs(200);
/// Users have got what they asked for by then.
const PATIENCE: Duration = Duration::from_secs(3600);
/// By then everything must be at rest: a key that failed often waits a quarter of an hour.
const REST: Duration = Duration::from_secs(1800);
/// By then it is known that a server is away.
const NOTICED: Duration = Duration::from_secs(30);
/// What is at rest stays so for this long.
const STAYS: Duration = Duration::from_secs(20);

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The API server and its store crash.
    Server,
    Controllers,
    Scheduler,
    Kubelet,
    /// A machine loses power.
    Power,
    /// One is thrown away, and another comes in its place.
    Removal,
    /// One is cut off from the API server.
    MachineCutOff,
    /// One of the candidates for the controllers, or the scheduler, is.
    PartCutOff,
    /// A container crashes.
    Upset,
    Eviction,
    /// Many at once, as a drain has them.
    Evictions,
    /// Somebody else's writes.
    Meddling,
    /// The clock on the wall is set.
    Clock,
    /// What one component writes takes seconds.
    Slowness,
    /// The server forgets a collection's past, and while it does nobody can watch it.
    Lapse,
    /// The other API server is away.
    Neighbour,
}

/// Who may have to wait for their turn to write.
const SLOW: [&str; 6] = [
    "replicaset-controller",
    "replicaset-controller",
    "deployment-controller",
    "statefulset-controller",
    "job-controller",
    "scheduler",
];
/// What the server may forget the past of.
const FORGOTTEN: [&str; 3] = ["/api/v1/pods", "/api/v1/pods", "/apis/apps/v1/replicasets"];

const AWAY: [Away; 3] = [Away::Refuses, Away::Silent, Away::Fails];

const FAULTS: [Fault; 16] = [
    Fault::Server,
    Fault::Controllers,
    Fault::Scheduler,
    Fault::Kubelet,
    Fault::Power,
    Fault::Removal,
    Fault::MachineCutOff,
    Fault::PartCutOff,
    Fault::Upset,
    Fault::Eviction,
    Fault::Evictions,
    Fault::Meddling,
    Fault::Clock,
    Fault::Slowness,
    Fault::Lapse,
    Fault::Neighbour,
];

/// The faults of a seed; all of them now and then.
fn faults(chance: &Chance) -> Vec<Fault> {
    let all = chance.one_in(6);
    let some: Vec<_> = FAULTS.into_iter().filter(|_| all || chance.one_in(2)).collect();
    if some.is_empty() { FAULTS.to_vec() } else { some }
}

/// Plays a seed; what it finds is in the trace.
///
/// # Errors
/// The simulation itself could not go on.
pub(crate) async fn run(seed: u64, calm: bool, trace: Arc<Trace>) -> Result<()> {
    let laws = Laws::new(Arc::clone(&trace));
    let network = Network::new(seed, Arc::clone(&trace), Arc::clone(&laws));
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
    (0..CANDIDATES).for_each(|number| cluster.start_controllers(number));
    cluster.start_scheduler();
    let machines: Vec<_> = (0..MACHINES).map(|number| Machine::new(seed, number, cluster)).collect();
    machines.iter().for_each(|machine| cluster.add(machine));
    let mut kubelets: Vec<_> = machines.iter().map(|machine| Some(machine.start(cluster))).collect();
    let life = CancellationToken::new();
    let user = |name: &str| User {
        client: cluster.client(name, Component::ApiServer, &life),
        chance: Arc::new(Chance::new(seed, name)),
        trace: Arc::clone(&cluster.trace),
    };
    let (actor, roller, meddler) = (user("user"), user("roller"), user("meddler"));
    let (stretcher, leader, writer) = (user("stretcher"), user("leader"), user("writer"));
    let laws = Arc::clone(&cluster.laws);
    let kinds = faults(&chance);
    let loses = !chance.one_in(5);
    sleep(Duration::from_secs(5)).await;
    let faults = async {
        if calm {
            return Ok(());
        }
        let losses = if loses { "with" } else { "without" };
        cluster.trace.step(format_args!("! faults: {kinds:?}, {losses} losses"));
        cluster.set_faulty(loses);
        let end = Instant::now() + TROUBLE;
        while Instant::now() < end {
            sleep(chance.millis(500, 20_000)).await;
            fault(*chance.pick(&kinds), &chance, cluster, &machines, &mut kubelets, &meddler).await?;
        }
        cluster.set_faulty(false);
        cluster.trace.step(format_args!("! faults stop"));
        anyhow::Ok(())
    };
    let users = async {
        tokio::join!(
            actor.act(TROUBLE),
            roller.roll(TROUBLE),
            stretcher.stretch(laws, TROUBLE),
            leader.rehearse(TROUBLE),
            writer.correspond(TROUBLE),
        )
    };
    let (acted, faults) = tokio::join!(timeout(PATIENCE, users), faults);
    faults?;
    if acted.is_err() {
        cluster.trace.fail("a user still waits for an answer".to_owned());
    }
    if chance.one_in(2) {
        cluster.neighbour.set_away(Some(*chance.pick(&AWAY)));
        sleep(NOTICED).await;
        settle(cluster, true).await;
        writer.look_for_neighbour().await;
        settle(cluster, true).await;
        cluster.neighbour.set_away(None);
    }
    settle(cluster, false).await;
    Ok(())
}

/// Something breaks, for a while or for a moment.
async fn fault(
    fault: Fault,
    chance: &Chance,
    cluster: &mut Cluster,
    machines: &[Arc<Machine>],
    kubelets: &mut [Option<Process>],
    meddler: &User,
) -> Result<()> {
    let at = chance.index(machines.len());
    let machine = &machines[at];
    match fault {
        Fault::Server => cluster.crash_server().await?,
        Fault::Controllers => {
            let number = chance.index(CANDIDATES);
            cluster.stop_controllers(number);
            sleep(chance.millis(100, 8000)).await;
            cluster.start_controllers(number);
        }
        Fault::Scheduler => {
            cluster.stop_scheduler();
            sleep(chance.millis(100, 8000)).await;
            cluster.start_scheduler();
        }
        Fault::Kubelet => {
            kubelets[at] = None;
            sleep(chance.millis(100, 20_000)).await;
            kubelets[at] = Some(machine.start(cluster));
        }
        Fault::Power => {
            kubelets[at] = None;
            machine.lose_power();
            sleep(chance.millis(1000, 90_000)).await;
            kubelets[at] = Some(machine.start(cluster));
        }
        Fault::Removal => {
            kubelets[at] = None;
            machine.lose_power();
            meddler.remove_node(&machine.name).await;
            sleep(chance.millis(1000, 90_000)).await;
            kubelets[at] = Some(machine.start(cluster));
        }
        Fault::MachineCutOff => cut_off(cluster, &machine.name, chance.millis(1000, 120_000)).await,
        Fault::PartCutOff => {
            let part = match chance.index(CANDIDATES + 1) {
                CANDIDATES => "scheduler".into(),
                number => controllers(number),
            };
            cut_off(cluster, &part, chance.millis(1000, 60_000)).await;
        }
        Fault::Upset => machine.upset(),
        Fault::Eviction => meddler.evict().await,
        Fault::Evictions => {
            for _ in 0..chance.between(3, 12) {
                meddler.evict().await;
            }
        }
        Fault::Meddling => meddler.meddle().await,
        Fault::Clock => {
            let (slow, fast) = (chance.below(300), chance.below(300));
            let wrong = i64::try_from(fast)? - i64::try_from(slow)?;
            cluster.trace.step(format_args!("! the clock is wrong by {wrong} s"));
            seams::jump(wrong);
        }
        Fault::Slowness => {
            let component = *chance.pick(&SLOW);
            cluster.trace.step(format_args!("! {component} waits for its turn to write"));
            cluster.network.hold(Some(component));
            sleep(chance.millis(10_000, 60_000)).await;
            cluster.network.hold(None);
        }
        Fault::Lapse => {
            let (path, lasts) = (*chance.pick(&FORGOTTEN), chance.millis(4000, 15_000));
            cluster.trace.step(format_args!("! nobody can watch {path}"));
            cluster.network.lapse(path, lasts);
            // What a drain takes meanwhile, nobody is told of.
            for _ in 0..3 {
                sleep(lasts / 4).await;
                meddler.evict().await;
            }
            sleep(lasts / 4).await;
        }
        Fault::Neighbour => {
            cluster.neighbour.set_away(Some(*chance.pick(&AWAY)));
            sleep(chance.millis(1000, 60_000)).await;
            cluster.neighbour.set_away(None);
        }
    }
    Ok(())
}

async fn cut_off(cluster: &Cluster, host: &Arc<str>, lasts: Duration) {
    cluster.trace.step(format_args!("! {host} is cut off"));
    cluster.network.cut(host, true);
    sleep(lasts).await;
    cluster.network.cut(host, false);
    cluster.trace.step(format_args!("! {host} is back"));
}

/// Waits until everything is as it is wanted, and stays so; `alone`: but for what waits for the neighbour.
async fn settle(cluster: &Cluster, alone: bool) {
    let end = Instant::now() + REST;
    let mut since = None;
    loop {
        let complaints = cluster.laws.unsettled(alone);
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

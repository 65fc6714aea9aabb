//! How Tiphys measures up: one table, beside upstream's own programs where they are installed.
//!
//! `cargo xtask bench [GROUP...]` runs it; the groups are `start`, `idle`, `pods`, `load`, `api`, `storage` and
//! `scheduling` (only if it is named); `pods=N` says how many Pods `storage` stores, `nodes=N` among how many
//! `scheduling` chooses, and `server=KUBECONFIG` sends the requests of `api` (or of `scheduling`, if that is named) to
//! any server instead (`pid=N` is its process, for memory), `only=TEXT` those whose measure's name begins so. Both sides get the same requests from the same
//! client over TLS, with their data on the same disk. Hosts are shared and noisy: the ratio says more than the numbers,
//! and no number is a test. `rounds=N` takes all measures so often, in turn of each side, and tells the best.

mod api;
mod host;
mod idle;
mod load;
mod objects;
mod pods;
mod reference;
mod scale;
mod scheduling;
mod side;
mod start;
mod table;

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    side::Side,
    table::{Measure, Table, Who},
};

/// The groups of measures, in the order they run.
const GROUPS: [&str; 7] = ["start", "idle", "pods", "load", "api", "storage", "scheduling"];

fn main() -> Result<()> {
    // Cargo adds flags of its own.
    let mut wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let foreign = take(&mut wanted, "server=").map(PathBuf::from);
    let only = take(&mut wanted, "only=").unwrap_or_default();
    let pods = take(&mut wanted, "pods=").map_or(Ok(100_000), |pods| pods.parse()).context("pods=")?;
    let nodes = take(&mut wanted, "nodes=").map_or(Ok(5_000), |nodes| nodes.parse()).context("nodes=")?;
    let rounds = take(&mut wanted, "rounds=").map_or(Ok(1), |rounds| rounds.parse()).context("rounds=")?;
    let server = take(&mut wanted, "pid=").map(|pid| pid.parse()).transpose().context("pid=")?;
    if let Some(unknown) = wanted.iter().find(|name| !GROUPS.contains(&name.as_str())) {
        bail!("no group of measures is named {unknown}; there are {}", GROUPS.join(", "));
    }
    if wanted.is_empty() {
        // Thousands of nodes are measured only when somebody asks for it.
        wanted.extend(GROUPS[..6].iter().map(|group| (*group).to_owned()));
    }
    let wants = |group: &str| wanted.iter().any(|name| name == group);
    // An error would mean that a provider is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut table = Table::default();
    // One thread: the client shares the processors with what it measures, and must not pay for waking itself.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let size = api::Size { pods, nodes, only: only.clone() };
    let work = async {
        if let Some(kubeconfig) = foreign {
            if wanted == ["scheduling"] {
                let servers: Vec<u32> = server.into_iter().collect();
                return scheduling::measures(&kubeconfig, nodes, &only, &servers, &mut |what, value| {
                    table.tell(Who::Tiphys, what, value)
                })
                .await;
            }
            return api::requests(&kubeconfig, &only, &mut |what, value| {
                table.tell(Who::Tiphys, what, value)
            })
            .await;
        }
        for _ in 0..rounds {
            let mut tiphys = side::Tiphys::new()?;
            measure(&mut tiphys, wants, &size, &mut |what, value| table.tell(Who::Tiphys, what, value))
                .await?;
            drop(tiphys);
            if let Some(mut reference) = reference::find()? {
                let name = reference.name();
                let tell = &mut |what, value| table.tell(Who::Reference, what, value);
                measure(&mut reference, wants, &size, tell).await?;
                table.beside(name);
            }
            if wants("api") {
                let nothing = api::Nothing::start()?;
                let tell = &mut |what, value| table.tell(Who::Nothing, what, value);
                api::requests(&nothing.kubeconfig(), &only, tell).await?;
            }
        }
        anyhow::Ok(())
    };
    // What was started ends with the work, also with that which is not finished.
    let done = runtime.block_on(async {
        tokio::select! {
            done = work => done,
            _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
        }
    });
    print!("{}{}", host::describe(), table.render());
    done
}

/// The value of an argument that begins so.
fn take(arguments: &mut Vec<String>, prefix: &str) -> Option<String> {
    let at = arguments.iter().position(|argument| argument.starts_with(prefix))?;
    arguments.remove(at).strip_prefix(prefix).map(str::to_owned)
}

/// Takes every measure that is wanted and that the side can be asked for.
async fn measure(
    side: &mut dyn Side,
    wants: impl Fn(&str) -> bool,
    size: &api::Size,
    mut tell: &mut (dyn FnMut(Measure, f64) + Send),
) -> Result<()> {
    if side.has_node() && GROUPS[..3].iter().any(|group| wants(group)) {
        let client =
            if wants("start") { start::empty(side, &mut tell).await? } else { start::once(side).await? };
        if wants("start") || wants("idle") {
            idle::run_example(side, &client).await?;
        }
        if wants("idle") {
            idle::measure(side, &mut tell).await?;
        }
        if wants("start") {
            start::existing(side, &mut tell).await?;
        }
        if wants("pods") {
            pods::measure(side, &client, &mut tell).await?;
        }
        side.wipe()?;
    }
    if wants("load") {
        // On a cluster of its own, where nothing goes on.
        load::measure(&start::once(side).await?, &mut tell).await?;
        side.wipe()?;
    }
    if wants("api") {
        start::once(side).await?;
        api::requests(&side.kubeconfig(), &size.only, tell).await?;
        side.wipe()?;
    }
    if wants("storage") {
        start::once(side).await?;
        api::storage(side, size, tell).await?;
        side.wipe()?;
    }
    if wants("scheduling") && side.has_node() {
        start::once(side).await?;
        let servers = side.processes()?.servers;
        scheduling::measures(&side.kubeconfig(), size.nodes, &size.only, &servers, tell).await?;
    }
    Ok(())
}

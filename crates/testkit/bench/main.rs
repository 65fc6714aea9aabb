//! How Tiphys measures up: one table, beside upstream's own programs where they are installed.
//!
//! `cargo xtask bench [GROUP...]` runs it; the groups are `start`, `idle`, `pods` and `load`. Both sides get the same requests
//! from the same client over TLS, with their data on the same disk. Hosts are shared and noisy: the ratio says
//! more than the numbers, and no number is a test.

mod host;
mod idle;
mod load;
mod objects;
mod pods;
mod reference;
mod side;
mod start;
mod table;

use anyhow::{Result, bail};

use crate::{side::Side, table::Table};

/// The groups of measures, in the order they run.
const GROUPS: [&str; 4] = ["start", "idle", "pods", "load"];

fn main() -> Result<()> {
    // Cargo adds flags of its own.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let Some(unknown) = wanted.iter().find(|name| !GROUPS.contains(&name.as_str())) {
        bail!("no group of measures is named {unknown}; there are {}", GROUPS.join(", "));
    }
    let wants = |group: &str| wanted.is_empty() || wanted.iter().any(|name| name == group);
    // An error would mean that a provider is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut table = Table::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let work = async {
        let mut tiphys = side::Tiphys::new()?;
        measure(&mut tiphys, wants, &mut |name, value| table.tiphys(name, value)).await?;
        drop(tiphys);
        if let Some(mut reference) = reference::find()? {
            let name = reference.name();
            measure(&mut reference, wants, &mut |name, value| table.reference(name, value)).await?;
            table.beside(name);
        }
        anyhow::Ok(())
    };
    // What was started ends with the work, also with that which is not finished.
    runtime.block_on(async {
        tokio::select! {
            done = work => done,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    })?;
    print!("{}{}", host::describe(), table.render());
    Ok(())
}

/// Takes every measure that is wanted and that the side can be asked for.
async fn measure(
    side: &mut dyn Side,
    wants: impl Fn(&str) -> bool,
    tell: &mut dyn FnMut(&'static str, f64),
) -> Result<()> {
    let mut tell = |name, value| {
        eprintln!("{name}: {value:.2}");
        tell(name, value);
    };
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
    }
    Ok(())
}

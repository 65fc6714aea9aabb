//! How long it takes to connect and disconnect pods.
//!
//! `cargo run --release -p tiphys-network --example pods [pods]` as root; works in network namespaces of its own.

use std::{
    fs::File,
    os::fd::AsRawFd,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use nix::sched::{CloneFlags, unshare};
use tiphys_network::{Instance, PodNetwork, bridge::Config};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let pods = std::env::args().nth(1).map_or(Ok(100), |text| text.parse::<usize>())?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(pods))
}

fn namespaces(count: usize) -> Result<Vec<File>, Failure> {
    let made = std::thread::spawn(move || {
        (0..count)
            .map(|_| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                File::open("/proc/thread-self/ns/net")
            })
            .collect::<std::io::Result<Vec<File>>>()
    });
    Ok(made.join().map_err(|_| "making namespaces")??)
}

async fn measure(count: usize) -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let network = PodNetwork::new(Config {
        instance: Instance::new(0xbe9c_0001),
        pod_cidr: "10.244.0.0/22".parse()?,
        cluster_cidr: "10.244.0.0/16".parse()?,
        service_cidr: "10.96.0.0/16".parse()?,
        state_dir: dir.path().to_owned(),
        mtu: None,
    });
    let network = Arc::new(network.await?);
    let path = |file: &File| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let one = namespaces(count)?;
    let (mut attach, mut detach) = (Vec::new(), Vec::new());
    for (number, netns) in one.iter().enumerate() {
        let start = Instant::now();
        network.attach(&path(netns), &format!("one-{number}"), &[]).await?;
        attach.push(start.elapsed());
    }
    for number in 0..count {
        let start = Instant::now();
        network.detach(&format!("one-{number}")).await?;
        detach.push(start.elapsed());
    }
    let many = namespaces(count)?;
    let start = Instant::now();
    try_join_all(many.iter().enumerate().map(|(number, netns)| {
        let (network, path) = (network.clone(), path(netns));
        async move { network.attach(&path, &format!("many-{number}"), &[]).await }
    }))
    .await?;
    let at_once = start.elapsed();
    tiphys_network::cleanup(Instance::new(0xbe9c_0001)).await?;

    println!("connect one pod (median of {count})     {:8.2} ms", median(attach));
    println!("disconnect one pod (median of {count})  {:8.2} ms", median(detach));
    println!("connect {count} pods at once            {:8.2} ms", at_once.as_secs_f64() * 1000.0);
    Ok(())
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

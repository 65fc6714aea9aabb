//! How long the kernel's service tables take, beside `nft -f` with the same tables in the same run.
//!
//! `cargo run --release -p tiphys-network --example services [services] [endpoints]` as root; works in a network
//! namespace of its own.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::Write as _,
    net::{Ipv4Addr, SocketAddrV4},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tiphys_client::ObjectKey;
use tiphys_network::{
    Instance, Proxy,
    bridge::Protocol,
    proxy::{
        Config, Update,
        plan::{Frontend, Route},
    },
};

const CHANGES: u32 = 51;

type Failure = Box<dyn std::error::Error>;

fn frontend(service: u32) -> Frontend {
    Frontend { address: Ipv4Addr::from(0x0a60_0000 + 1 + service), protocol: Protocol::Tcp, port: 80 }
}

fn endpoints(service: u32, count: u32, first: u32) -> Vec<SocketAddrV4> {
    let address = |n| Ipv4Addr::from(0x0b00_0000 + 1 + service * (count + 1) + n);
    (first..first + count).map(|n| SocketAddrV4::new(address(n), 8080)).collect()
}

fn update(service: u32, count: u32, first: u32) -> Update {
    let endpoints = endpoints(service, count, first);
    let route = Route::Endpoints { endpoints, affinity: None, masquerade: false, sources: None };
    (ObjectKey::new("bench", &format!("s{service}")), BTreeMap::from([(frontend(service), route)]))
}

fn nft(text: &str) -> Result<Duration, Failure> {
    let start = Instant::now();
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no stdin")?.write_all(text.as_bytes())?;
    match child.wait()?.success() {
        true => Ok(start.elapsed()),
        false => Err("nft failed".into()),
    }
}

/// The same tables, as text.
fn reference(services: u32, count: u32) -> Result<String, Failure> {
    let mut text = String::from("table ip reference {\n map endpoints {\n");
    writeln!(
        text,
        "  type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service\n  elements = {{"
    )?;
    for service in 0..services {
        for (number, endpoint) in endpoints(service, count, 0).iter().enumerate() {
            let vip = frontend(service).address;
            writeln!(text, "   {vip} . tcp . 80 . {number} : {} . {},", endpoint.ip(), endpoint.port())?;
        }
    }
    writeln!(text, "  }}\n }}\n set hairpin {{\n  type ipv4_addr . ipv4_addr\n  elements = {{")?;
    for service in 0..services {
        for endpoint in endpoints(service, count, 0) {
            writeln!(text, "   {0} . {0},", endpoint.ip())?;
        }
    }
    writeln!(text, "  }}\n }}\n chain pick {{")?;
    let key = "ip daddr . meta l4proto . th dport";
    writeln!(
        text,
        "  meta l4proto {{ tcp, udp }} meta mark set numgen inc mod {count} dnat ip to {key} . meta mark map @endpoints\n }}"
    )?;
    writeln!(
        text,
        " map services {{\n  type ipv4_addr . inet_proto . inet_service : verdict\n  elements = {{"
    )?;
    for service in 0..services {
        writeln!(text, "   {} . tcp . 80 : goto pick,", frontend(service).address)?;
    }
    writeln!(text, "  }}\n }}\n chain prerouting {{")?;
    writeln!(text, "  type nat hook prerouting priority dstnat; {key} vmap @services\n }}\n}}")?;
    Ok(text)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u32>());
    let services = arguments.next().transpose()?.unwrap_or(10_000);
    let count = arguments.next().transpose()?.unwrap_or(3);
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(services, count))
}

async fn measure(services: u32, count: u32) -> Result<(), Failure> {
    let mut proxy = Proxy::new(Config {
        instance: Instance::new(0xbe9c_0000),
        service_cidr: "10.96.0.0/12".parse()?,
        pod_cidr: "10.244.0.0/16".parse()?,
        node: "bench".to_owned(),
        announced: Vec::new(),
    })?;
    let updates: Vec<Update> = (0..services).map(|service| update(service, count, 0)).collect();
    let start = Instant::now();
    proxy.replace(updates).await?;
    let load = start.elapsed();

    let mut changes = Vec::new();
    for round in 0..CHANGES {
        let start = Instant::now();
        proxy.update(vec![update(services / 2, count, 1 - round % 2)]).await?;
        changes.push(start.elapsed());
    }
    let mut additions = Vec::new();
    for extra in 0..CHANGES {
        let start = Instant::now();
        proxy.update(vec![update(services + extra, count, 0)]).await?;
        additions.push(start.elapsed());
    }
    tiphys_network::cleanup(Instance::new(0xbe9c_0000)).await?;

    let reference_load = nft(&reference(services, count)?)?;
    let (vip, [old, new]) =
        (frontend(services / 2).address, [0, 1].map(|first| endpoints(services / 2, 1, first)[0]));
    let mut reference_changes = Vec::new();
    for round in 0..CHANGES {
        let (from, to) = if round % 2 == 0 { (old, new) } else { (new, old) };
        let key = format!("{vip} . tcp . 80 . 0");
        reference_changes.push(nft(&format!(
            "delete element ip reference endpoints {{ {key} : {} . 8080 }}\n\
             add element ip reference endpoints {{ {key} : {} . 8080 }}\n",
            from.ip(),
            to.ip()
        ))?);
    }
    let mut reference_additions = Vec::new();
    for extra in services..services + CHANGES {
        let vip = frontend(extra).address;
        let mut text = format!("add element ip reference services {{ {vip} . tcp . 80 : goto pick }}\n");
        for (number, endpoint) in endpoints(extra, count, 0).iter().enumerate() {
            let key = format!("{vip} . tcp . 80 . {number}");
            writeln!(text, "add element ip reference endpoints {{ {key} : {} . 8080 }}", endpoint.ip())?;
            writeln!(text, "add element ip reference hairpin {{ {0} . {0} }}", endpoint.ip())?;
        }
        reference_additions.push(nft(&text)?);
    }

    println!("{services} services of {count} endpoints     tiphys      nft -f    ratio");
    for (what, ours, theirs) in [
        ("load the whole table", load, reference_load),
        ("replace one endpoint (median)", median(changes), median(reference_changes)),
        ("add one service (median)", median(additions), median(reference_additions)),
    ] {
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        println!("{what:32} {:8.2} ms {:8.2} ms  {ratio:6.3}", ms(ours), ms(theirs));
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

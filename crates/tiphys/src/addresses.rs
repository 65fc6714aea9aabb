//! Where this host is reached.

use std::net::{IpAddr, Ipv4Addr};

use tiphys_network::bridge;

use crate::settings::Settings;

/// The address that this host is reached at: the one that it listens on, or else the one that it would send from. A
/// host without a way out is still reached by its pods, at their gateway.
pub(crate) fn advertised(settings: &Settings) -> IpAddr {
    let listening = settings.bind_address;
    if !listening.is_unspecified() && !listening.is_loopback() {
        return listening;
    }
    // Connecting a datagram socket only looks up the route; nothing is sent.
    let outward = || -> std::io::Result<IpAddr> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    match outward() {
        Ok(address) if !address.is_unspecified() && !address.is_loopback() => address,
        _ => bridge::gateway(settings.first_pod_cidr()).into(),
    }
}

/// The address that programs on this host reach it at.
pub(crate) fn local(settings: &Settings) -> IpAddr {
    let listening = settings.bind_address;
    if listening.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { listening }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn programs_on_the_host_are_sent_to_where_it_listens() {
        for (flag, reached) in [("0.0.0.0", "127.0.0.1"), ("127.0.0.5", "127.0.0.5"), ("::1", "::1")] {
            let settings = Line::parse_from(["up", "--bind-address", flag]).settings;
            assert_eq!(local(&settings).to_string(), reached);
        }
    }

    #[test]
    fn a_host_without_a_way_out_is_reached_at_its_pods_gateway() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: making network namespaces takes root");
            return;
        }
        let apart = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
            let mut settings = Line::parse_from(["up"]).settings;
            assert_eq!(advertised(&settings), Ipv4Addr::new(10, 244, 0, 1));
            settings.bind_address = Ipv4Addr::LOCALHOST.into();
            assert_eq!(advertised(&settings), Ipv4Addr::new(10, 244, 0, 1));
            settings.bind_address = Ipv4Addr::new(192, 0, 2, 7).into();
            assert_eq!(advertised(&settings), settings.bind_address);
        });
        apart.join().expect("the addresses are right");
    }
}

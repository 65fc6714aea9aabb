//! Links, addresses and routes, by rtnetlink.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
};

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use nix::{errno::Errno, sched};
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage},
        route::{RouteAddress, RouteAttribute, RouteHeader, RouteProtocol, RouteScope},
    },
};
use tokio::task::AbortHandle;

/// A request to the kernel's router failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct Error {
    step: String,
    source: rtnetlink::Error,
}

fn errno(error: &rtnetlink::Error) -> Option<Errno> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(Errno::from_raw(-message.raw_code())),
        _ => None,
    }
}

fn failed(step: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Error {
    let step = step.into();
    |source| Error { step, source }
}

/// Forgives one errno: what was asked for is so already.
fn already<T: Default>(result: Result<T, rtnetlink::Error>, fine: Errno) -> Result<T, rtnetlink::Error> {
    match result {
        Err(error) if errno(&error) == Some(fine) => Ok(T::default()),
        other => other,
    }
}

/// The router of one network namespace.
#[derive(Debug)]
pub(crate) struct Router {
    handle: Handle,
    connection: AbortHandle,
}

impl Drop for Router {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Router {
    /// The router of the namespace that this thread is in.
    pub(crate) fn here() -> io::Result<Router> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection).abort_handle();
        Ok(Router { handle, connection })
    }

    /// The router of another namespace. `prepare` runs on a thread that is in it, for what only a file in
    /// `/proc/sys/net` can say.
    pub(crate) async fn inside(
        netns: File,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Router> {
        let runtime = tokio::runtime::Handle::current();
        let (done, outcome) = tokio::sync::oneshot::channel();
        // A thread's namespace is its own, and a socket keeps the one it was made in: a thread that ends right
        // after is the one place where changing it disturbs nobody.
        std::thread::Builder::new().name("pod-netns".into()).spawn(move || {
            let router = sched::setns(&netns, sched::CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .and_then(|()| prepare())
                .and_then(|()| {
                    let _inside = runtime.enter();
                    Router::here()
                });
            // Nobody listens if the caller was cancelled; the router then just closes.
            let _ = done.send(router);
        })?;
        outcome.await.map_err(|_| io::Error::other("the namespace's thread died"))?
    }

    /// The link of this name, if there is one.
    pub(crate) async fn link(&self, name: &str) -> Result<Option<LinkMessage>, Error> {
        let found = self.handle.link().get().match_name(name).execute().try_next().await;
        already(found, Errno::ENODEV).map_err(failed(format!("looking for link {name}")))
    }

    /// All links whose names start so, as (name, index).
    pub(crate) async fn links(&self, prefix: &str) -> Result<Vec<(String, u32)>, Error> {
        let mut links = self.handle.link().get().execute();
        let mut found = Vec::new();
        while let Some(link) = links.try_next().await.map_err(failed("listing links"))? {
            match name(&link) {
                Some(name) if name.starts_with(prefix) => found.push((name.to_owned(), link.header.index)),
                _ => {}
            }
        }
        Ok(found)
    }

    pub(crate) async fn delete(&self, index: u32) -> Result<(), Error> {
        already(self.handle.link().del(index).execute().await, Errno::ENODEV)
            .map_err(failed(format!("deleting link {index}")))
    }

    /// The bridge of this name, made if it is not there. Its hardware address never changes as ports come and go.
    pub(crate) async fn bridge(&self, name: &str, address: Ipv4Addr, mtu: u32) -> Result<u32, Error> {
        let message = LinkBridge::new(name)
            .mcast_snooping(false)
            .address(hardware_address(address).to_vec())
            .mtu(mtu)
            .build();
        already(self.handle.link().add(message).execute().await, Errno::EEXIST)
            .map_err(failed(format!("creating bridge {name}")))?;
        let link = self.link(name).await?;
        link.map(|link| link.header.index)
            .ok_or_else(|| failed(format!("finding bridge {name}"))(rtnetlink::Error::RequestFailed))
    }

    /// Makes a veth pair: `host` on this side, up and a port of the bridge, and `eth0`, still down, in the other
    /// namespace (the kernel makes that end first, and refuses to bring it up without the other).
    pub(crate) async fn veth(
        &self,
        host: &str,
        bridge: u32,
        netns: &File,
        address: Ipv4Addr,
        mtu: u32,
    ) -> Result<u32, Error> {
        let inside = LinkMessageBuilder::<LinkUnspec>::new()
            .name("eth0")
            .mtu(mtu)
            .address(hardware_address(address).to_vec())
            .setns_by_fd(netns.as_raw_fd())
            .build();
        let mut message =
            LinkMessageBuilder::<LinkUnspec>::new().name(host).mtu(mtu).controller(bridge).up().build();
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inside))),
        ]));
        self.handle.link().add(message).execute().await.map_err(failed(format!("creating veth {host}")))?;
        let link = self.link(host).await?;
        link.map(|link| link.header.index)
            .ok_or_else(|| failed(format!("finding veth {host}"))(rtnetlink::Error::RequestFailed))
    }

    /// Makes a veth pair with both ends here.
    pub(crate) async fn veth_pair(&self, one: &str, other: &str) -> Result<(), Error> {
        let request = self.handle.link().add(LinkVeth::new(one, other).build());
        request.execute().await.map_err(failed(format!("creating veth {one}")))
    }

    /// Lets the bridge send a frame back to the port that it came from.
    pub(crate) async fn hairpin(&self, port: u32) -> Result<(), Error> {
        let message = LinkBridgePort::new(port).hairpin(true).build();
        let request = self.handle.link().set_port(message);
        request.execute().await.map_err(failed(format!("setting hairpin mode of bridge port {port}")))
    }

    pub(crate) async fn up(&self, index: u32) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.handle.link().set(message).execute().await.map_err(failed(format!("bringing link {index} up")))
    }

    pub(crate) async fn address(&self, link: u32, address: Ipv4Addr, prefix: u8) -> Result<(), Error> {
        let request = self.handle.address().add(link, IpAddr::V4(address), prefix).replace();
        request.execute().await.map_err(failed(format!("adding {address}/{prefix} to link {link}")))
    }

    /// A route to a network on the link itself.
    pub(crate) async fn on_link(
        &self,
        link: u32,
        to: Ipv4Net,
        source: Option<Ipv4Addr>,
    ) -> Result<(), Error> {
        let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to.network(), to.prefix_len())
            .output_interface(link)
            .scope(RouteScope::Link)
            .protocol(RouteProtocol::Kernel);
        if let Some(source) = source {
            route = route.pref_source(source);
        }
        let request = self.handle.route().add(route.build()).replace();
        request.execute().await.map_err(failed(format!("routing {to} to link {link}")))
    }

    pub(crate) async fn default_via(&self, link: u32, gateway: Ipv4Addr) -> Result<(), Error> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(link).build();
        let request = self.handle.route().add(route).replace();
        request.execute().await.map_err(failed(format!("routing everything via {gateway}")))
    }

    /// A route to a network behind a neighbour, of this priority (the smaller goes first), in place of the one to
    /// another neighbour.
    pub(crate) async fn via(&self, to: Ipv4Net, gateway: Ipv4Addr, priority: u32) -> Result<(), Error> {
        let route = behind(to, priority).gateway(gateway).build();
        let request = self.handle.route().add(route).replace();
        request.execute().await.map_err(failed(format!("routing {to} via {gateway}")))
    }

    /// Takes that route away.
    pub(crate) async fn forget(&self, to: Ipv4Net, priority: u32) -> Result<(), Error> {
        let request = self.handle.route().del(behind(to, priority).build());
        already(request.execute().await, Errno::ESRCH).map_err(failed(format!("removing the route to {to}")))
    }

    /// The routes of the main table that lead to a link.
    pub(crate) async fn routes(&self) -> Result<Vec<Route>, Error> {
        let mut routes = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
        let mut found = Vec::new();
        while let Some(route) = routes.try_next().await.map_err(failed("listing routes"))? {
            if route.header.table != RouteHeader::RT_TABLE_MAIN {
                continue;
            }
            let (mut to, mut link, mut priority) = (Ipv4Addr::UNSPECIFIED, None, 0);
            let mut gateway = None;
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet(address)) => to = *address,
                    RouteAttribute::Oif(index) => link = Some(*index),
                    RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
                    RouteAttribute::Priority(value) => priority = *value,
                    _ => {}
                }
            }
            if let (Ok(to), Some(link)) = (Ipv4Net::new(to, route.header.destination_prefix_length), link) {
                found.push(Route { to, link, gateway, priority });
            }
        }
        Ok(found)
    }

    /// The name of the link, if there is one of this index.
    pub(crate) async fn name(&self, index: u32) -> Result<Option<String>, Error> {
        Ok(self.by_index(index).await?.as_ref().and_then(name).map(str::to_owned))
    }

    /// The MTU of the link that the default route leaves by.
    pub(crate) async fn default_mtu(&self) -> Result<Option<u32>, Error> {
        let routes = self.routes().await?;
        let default =
            routes.iter().filter(|route| route.to.prefix_len() == 0).min_by_key(|route| route.priority);
        let Some(default) = default else { return Ok(None) };
        Ok(self.by_index(default.link).await?.and_then(|link| {
            link.attributes.iter().find_map(|a| match a {
                LinkAttribute::Mtu(mtu) => Some(*mtu),
                _ => None,
            })
        }))
    }

    async fn by_index(&self, index: u32) -> Result<Option<LinkMessage>, Error> {
        let found = self.handle.link().get().match_index(index).execute().try_next().await;
        already(found, Errno::ENODEV).map_err(failed(format!("looking for link {index}")))
    }
}

/// A route to a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) to: Ipv4Net,
    pub(crate) link: u32,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) priority: u32,
}

fn behind(to: Ipv4Net, priority: u32) -> RouteMessageBuilder<Ipv4Addr> {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(to.network(), to.prefix_len())
        .priority(priority)
}

/// Whether `inside` (eth0 as its own namespace sees it) is the other end of the host's link `index`.
pub(crate) fn is_peer(inside: &LinkMessage, index: u32, address: Ipv4Addr) -> bool {
    let linked = inside.attributes.iter().any(|a| matches!(a, LinkAttribute::Link(peer) if *peer == index));
    let addressed = inside
        .attributes
        .iter()
        .any(|a| matches!(a, LinkAttribute::Address(mac) if **mac == hardware_address(address)));
    linked && addressed
}

fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// The hardware address that goes with an address: locally administered, and the same whenever the address is given
/// out, so that no neighbour's cache is ever stale.
fn hardware_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

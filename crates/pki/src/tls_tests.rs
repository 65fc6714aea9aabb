use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use rustls::{ClientConnection, ServerConnection, pki_types::ServerName};

use super::*;
use crate::{Authority, Clock, Leaf, Peer, Rejected, SHORT, ServingNames};

struct Pair {
    client: ClientConnection,
    server: ServerConnection,
}

impl Pair {
    /// Hands the handshake's bytes over until neither side has more to say.
    fn handshake(&mut self) -> std::result::Result<(), rustls::Error> {
        loop {
            let mut wire = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut wire).unwrap();
            }
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                self.server.read_tls(&mut rest).unwrap();
                self.server.process_new_packets()?;
            }
            let mut wire = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut wire).unwrap();
            }
            if wire.is_empty() {
                return Ok(());
            }
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                self.client.read_tls(&mut rest).unwrap();
                self.client.process_new_packets()?;
            }
        }
    }
}

fn connect(
    trusted: &Authority,
    server: Arc<ServerConfig>,
    name: &str,
    own: Option<Arc<Rotating>>,
) -> std::result::Result<Pair, rustls::Error> {
    let config = Arc::new(client_config(trusted.certificate(), own).unwrap());
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut pair = Pair {
        client: ClientConnection::new(config, name).unwrap(),
        server: ServerConnection::new(server).unwrap(),
    };
    pair.handshake()?;
    Ok(pair)
}

struct Cluster {
    ca: Arc<Authority>,
    trust: ClientTrust,
    clock: Clock,
    elapsed: Arc<AtomicU64>,
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The client side of a handshake asks the system for the time.
        let start = SystemTime::now();
        let elapsed = Arc::new(AtomicU64::new(0));
        let ca = Arc::new(Authority::open(dir.path(), "ca", "kubernetes", start).unwrap());
        let trust = ClientTrust::new([ca.certificate()]).unwrap();
        let seconds = Arc::clone(&elapsed);
        let clock: Clock = Arc::new(move || start + Duration::from_secs(seconds.load(Ordering::Relaxed)));
        Self { ca, trust, clock, elapsed }
    }
    fn rotating(&self, leaf: Leaf) -> Arc<Rotating> {
        Arc::new(Rotating::new(Arc::clone(&self.ca), leaf, Arc::clone(&self.clock)).unwrap())
    }
    fn server(&self) -> Arc<ServerConfig> {
        let leaf = Leaf::apiserver(&ServingNames {
            node: "node-1",
            domain: "cluster.local",
            service_address: "10.96.0.1".parse().unwrap(),
            host_addresses: &[],
            extra: &[],
        });
        server_config(self.rotating(leaf), &self.trust).unwrap()
    }
    fn peer(&self, pair: &Pair) -> std::result::Result<Peer, Rejected> {
        self.trust.verify(pair.server.peer_certificates().unwrap_or_default(), (self.clock)())
    }
}

#[test]
fn both_ends_prove_who_they_are() {
    let cluster = Cluster::new();
    for name in ["localhost", "kubernetes.default.svc", "10.96.0.1", "127.0.0.1"] {
        let own = cluster.rotating(Leaf::scheduler());
        let pair = connect(&cluster.ca, cluster.server(), name, Some(own)).unwrap();
        assert_eq!(pair.client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        assert_eq!(cluster.peer(&pair).unwrap().user, "system:kube-scheduler", "{name}");
    }
}

#[test]
fn a_client_checks_authority_and_name() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    assert!(connect(&other.ca, cluster.server(), "localhost", None).is_err(), "another authority");
    assert!(connect(&cluster.ca, cluster.server(), "example.org", None).is_err(), "another name");
}

#[test]
fn a_useless_certificate_passes_the_handshake_and_is_named_afterwards() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let none = connect(&cluster.ca, cluster.server(), "localhost", None).unwrap();
    assert_eq!(cluster.peer(&none), Err(Rejected::Absent));

    let foreign = other.rotating(Leaf::scheduler());
    let foreign = connect(&cluster.ca, cluster.server(), "localhost", Some(foreign)).unwrap();
    assert!(matches!(cluster.peer(&foreign), Err(Rejected::Untrusted(_))));

    let own = cluster.rotating(Leaf::scheduler());
    let pair = connect(&cluster.ca, cluster.server(), "localhost", Some(own)).unwrap();
    cluster.elapsed.store(SHORT.as_secs() + 1, Ordering::Relaxed);
    assert!(matches!(cluster.peer(&pair), Err(Rejected::Untrusted(_))), "it expires while connected");
}

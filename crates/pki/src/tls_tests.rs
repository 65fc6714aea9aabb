use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use p521::ecdsa::{Signature, SigningKey as Scalar, signature::hazmat::PrehashSigner};
use rustls::{
    ClientConnection, ServerConnection, SignatureAlgorithm, SignatureScheme,
    client::ResolvesClientCert,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey},
};

use super::*;
use crate::{Authority, Clock, KeyUsage, Leaf, Peer, Rejected, SHORT, ServingNames, SigningRequest, der};

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
    let own = own.map(|own| own as Arc<dyn ResolvesClientCert>);
    connect_with(trusted, server, name, own)
}

fn connect_with(
    trusted: &Authority,
    server: Arc<ServerConfig>,
    name: &str,
    own: Option<Arc<dyn ResolvesClientCert>>,
) -> std::result::Result<Pair, rustls::Error> {
    let mut config = client_config(trusted.certificate(), None).unwrap();
    if let Some(own) = own {
        config.client_auth_cert_resolver = own;
    }
    let config = Arc::new(config);
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

/// A client's key on P-521.
#[derive(Clone, Debug)]
struct Big(Scalar);

impl SigningKey for Big {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme()).then(|| Box::new(self.clone()) as _)
    }
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Big {
    fn sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, rustls::Error> {
        let digest = ring::digest::digest(&ring::digest::SHA512, message);
        let signature: Signature = self.0.sign_prehash(digest.as_ref()).unwrap();
        Ok(signature.to_der().as_bytes().to_vec())
    }
    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP521_SHA512
    }
}

#[test]
fn a_client_may_have_a_key_on_p521() {
    let cluster = Cluster::new();
    let key = Big(Scalar::from_slice(&[1; 66]).unwrap());
    let point = key.0.verifying_key().to_sec1_point(false);
    // A request (RFC 2986) for `O=dev, CN=big`, signed with SHA-512.
    let oid = |bytes: &[u8]| der::tagged(der::OID, &[bytes]);
    let name = |ty: u8, text: &[u8]| {
        der::tagged(0x31, &[&der::sequence(&[&oid(&[0x55, 4, ty]), &der::tagged(0x0c, &[text])])])
    };
    let curve =
        der::sequence(&[&oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]), &oid(&[0x2b, 0x81, 4, 0, 0x23])]);
    let info = der::sequence(&[
        &der::tagged(0x02, &[&[0]]),
        &der::sequence(&[&name(10, b"dev"), &name(3, b"big")]),
        &der::sequence(&[&curve, &der::bits(point.as_bytes(), 0)]),
        &der::tagged(0xa0, &[]),
    ]);
    let signature = key.sign(&info).unwrap();
    let algorithm = der::sequence(&[&oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4])]);
    let request =
        der::pem("CERTIFICATE REQUEST", &der::sequence(&[&info, &algorithm, &der::bits(&signature, 0)]));
    let request = SigningRequest::parse(request.as_bytes()).unwrap();
    let usages = ["digital signature", "client auth"].map(|name| KeyUsage::named(name).unwrap());
    let certificate = cluster.ca.sign(&request, &usages, SHORT, (cluster.clock)()).unwrap();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let proves = |key: Big| {
        let own = CertifiedKey::new(vec![certificate.clone()], Arc::new(key));
        let own = Arc::new(SingleCertAndKey::from(own));
        connect_with(&cluster.ca, cluster.server(), "localhost", Some(own)).map(|pair| cluster.peer(&pair))
    };
    let peer = proves(key).unwrap().unwrap();
    assert_eq!((peer.user.as_str(), peer.groups), ("big", vec!["dev".to_owned()]));
    assert!(
        proves(Big(Scalar::from_slice(&[0; 65].iter().chain(&[9]).copied().collect::<Vec<u8>>()).unwrap()))
            .is_err()
    );
}

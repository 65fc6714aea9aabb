use super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
}

#[test]
fn an_upgrade_is_handed_on_and_other_hops_are_not() {
    let asked = headers(&[
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "k"),
        ("te", "trailers"),
        ("authorization", "Bearer secret"),
        ("host", "api"),
    ]);
    assert!(is_upgrade(&asked));
    let expected =
        headers(&[("sec-websocket-key", "k"), ("connection", "Upgrade"), ("upgrade", "websocket")]);
    assert_eq!(handed_on(&asked), expected);
    let plain = headers(&[("connection", "keep-alive"), ("upgrade", "websocket")]);
    assert!(!is_upgrade(&plain));
    assert!(handed_on(&plain).is_empty());
}

#[tokio::test]
async fn a_pods_own_certificate_is_no_hindrance() {
    use tiphys_pki::{Leaf, Pki, ServingNames, server_config};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let dir = tempfile::tempdir().expect("a directory");
    let pki = Pki::open(dir.path()).expect("keys");
    let names = ServingNames {
        node: "elsewhere",
        domain: "example.com",
        service_address: "192.0.2.1".parse().expect("an address"),
        host_addresses: &[],
        extra: &[],
    };
    let certificate = pki.rotating(Leaf::apiserver(&names)).expect("a certificate");
    let config = server_config(certificate, &pki.client_trust().expect("trust")).expect("a configuration");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let mut stream = tokio_rustls::TlsAcceptor::from(config).accept(stream).await.expect("TLS");
        stream.write_all(b"hello").await.expect("a reader");
        stream.shutdown().await.expect("a reader");
    });
    let mut heard = String::new();
    let mut stream = dial_tls(address).await.expect("TLS");
    stream.read_to_string(&mut heard).await.expect("an answer");
    assert_eq!(heard, "hello");
    serving.await.expect("a server");
}

use super::*;

#[test]
fn only_foreign_name_servers_are_asked() {
    let text = "search example.org\n# nameserver 9.9.9.9\nnameserver 10.96.0.10\nnameserver\t192.0.2.1\n\
                nameserver fe80::1%eth0\noptions ndots:5\nnameserver 2001:db8::1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
    let servers = parse(text, &["10.96.0.10".parse().unwrap()]);
    let texts: Vec<String> = servers.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]);
}

#[test]
fn questions_are_the_same_whatever_their_case_but_not_whatever_their_room() {
    let forwarder = Forwarder::new("/nonexistent".into(), Vec::new());
    let query = |name: &[u8]| {
        let mut query = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() as u8];
        query.extend_from_slice(name);
        query.extend_from_slice(&[0, 0, 1, 0, 1]);
        query
    };
    let key = |name: &[u8]| forwarder.key(&query(name), Transport::Udp).unwrap().0;
    assert_eq!(key(b"ORG"), key(b"org"));
    assert_ne!(key(b"org"), key(b"net"));
    let tcp = forwarder.key(&query(b"org"), Transport::Tcp).unwrap().0;
    assert_ne!(key(b"org"), tcp);
    let mut with_room = query(b"org");
    with_room[11] = 1;
    with_room.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    let roomy = forwarder.key(&with_room, Transport::Udp).unwrap().0;
    assert_eq!((roomy.room, roomy.dnssec), (1232, false));
    with_room[12 + 5 + 4 + 7] = 0x80;
    assert!(forwarder.key(&with_room, Transport::Udp).unwrap().0.dnssec);
}

#[tokio::test]
async fn without_name_servers_nobody_is_asked() {
    let forwarder = Arc::new(Forwarder::new("/nonexistent".into(), Vec::new()));
    let query = [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
    let error = forwarder.ask(&query, Transport::Udp).await.unwrap_err();
    assert!(matches!(error, Error::NoServers(_)), "{error}");
    assert!(forwarder.state.lock().under_way.is_empty());
}

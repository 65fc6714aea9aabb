//! Questions from pods and from the node, on their way through the proxy, and beyond the cluster.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, TXT},
    },
};
use tiphys_client::ObjectKey;
use tiphys_network::{
    bridge::Protocol,
    dns::{
        forward::Forwarder,
        model::{Endpoint, Kind, Service, Slice},
        serve::{Listener, Server},
        zone::{Catalog, Zone},
    },
    proxy::plan::Frontend,
};

use crate::{
    bridge::outside,
    proxy::{pods, proxy, service, to},
    support::{Netns, ip, on_a_host},
};

struct Fixture;

impl Catalog for Fixture {
    fn service(&self, key: &ObjectKey) -> Option<Arc<Service>> {
        let kind = match &*key.name {
            "web" => Kind::ClusterIp(vec!["10.96.0.7".parse().unwrap()]),
            "many" => Kind::Headless,
            "away" => Kind::ExternalName("www.example.org".into()),
            "near" => Kind::ExternalName("web.default.svc.cluster.local".into()),
            "self" => Kind::ExternalName("self.default.svc.cluster.local".into()),
            _ => return None,
        };
        Some(Arc::new(Service { kind, ports: Vec::new() }))
    }

    fn slices(&self, key: &ObjectKey) -> Vec<Arc<Slice>> {
        let endpoint = |n: u8| Endpoint { address: [10, 9, 0, n].into(), label: format!("e{n}").into() };
        let endpoints = (1..=100).map(endpoint).collect();
        vec![Arc::new(Slice { service: Some(key.clone()), ports: Vec::new(), endpoints })]
    }

    fn has_namespace(&self, namespace: &str) -> bool {
        namespace == "default"
    }

    fn services_at(&self, _: IpAddr) -> Vec<ObjectKey> {
        Vec::new()
    }

    fn endpoints_at(&self, _: IpAddr) -> Vec<ObjectKey> {
        Vec::new()
    }
}

/// A DNS server on the bridge's address behind the DNS service's, and where it listens.
async fn dns(dir: &Path, name_server: &str) -> (tiphys_network::Proxy, SocketAddr) {
    let resolv_conf = dir.join("resolv.conf");
    std::fs::write(&resolv_conf, format!("nameserver {name_server}\n")).unwrap();
    let listener = Listener::bind("10.244.0.1:10053".parse().unwrap()).unwrap();
    let address = listener.address();
    let forwarder = Forwarder::new(resolv_conf, vec!["10.96.0.10".parse().unwrap(), (*address.ip()).into()]);
    let server = Server::new(Zone::new("cluster.local", Vec::new()).unwrap(), Fixture, forwarder);
    tokio::spawn(server.serve(listener));
    let mut proxy = proxy();
    let frontend = |protocol| Frontend { address: [10, 96, 0, 10].into(), protocol, port: 53 };
    let endpoint = address.to_string();
    let routes = [(frontend(Protocol::Udp), to(&[&endpoint])), (frontend(Protocol::Tcp), to(&[&endpoint]))];
    proxy.replace(vec![service("kube-dns", routes)]).await.unwrap();
    (proxy, SocketAddr::V4(address))
}

/// A name server of the world, on port 53 of its namespace: every name has one address, `big` has more than UDP
/// carries, `loop` is asked of `back`. Counts the questions.
fn world_server(world: &Netns, back: Option<&'static str>) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let (udp, tcp) = world.run(|| {
        let address = "0.0.0.0:53";
        (UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap())
    });
    let answer = |query: &[u8]| {
        let query = Message::from_vec(query).unwrap();
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.queries.clone_from(&query.queries);
        let name = query.queries[0].name.clone();
        let data = match name.to_string().starts_with("big") {
            true => RData::TXT(TXT::new(vec!["x".repeat(255); 40])),
            false => RData::A(A::new(192, 0, 2, 99)),
        };
        answer.add_answer(Record::from_rdata(name, 300, data));
        answer
    };
    let count = asked.clone();
    let inside = world.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::SeqCst);
            let query = buffer[..length].to_vec();
            if let Some(back) = back {
                inside.spawn(move || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&query, back));
                continue;
            }
            let mut answer = answer(&query);
            if answer.to_vec().unwrap().len() > 512 {
                answer = answer.truncate();
                answer.metadata.truncation = true;
            }
            udp.send_to(&answer.to_vec().unwrap(), peer).unwrap();
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let answer = answer(&read_framed(&mut stream)).to_vec().unwrap();
            stream.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&answer).unwrap();
        }
    });
    asked
}

fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

fn question(name: &str, wanted: RecordType) -> Message {
    let mut query = Message::query();
    query.metadata.id = 4711;
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), wanted));
    query
}

/// Asks on a thread of the namespace, while the server goes on in this one.
async fn ask(from: &Netns, query: &Message, tcp: bool) -> Message {
    let (bytes, id) = (query.to_vec().unwrap(), query.metadata.id);
    let from = from.clone();
    let asking = move || {
        from.run(move || {
            let server = "10.96.0.10:53";
            let patience = Some(Duration::from_secs(10));
            if tcp {
                let mut stream = TcpStream::connect(server).unwrap();
                stream.set_read_timeout(patience).unwrap();
                stream.write_all(&[(bytes.len() as u16).to_be_bytes().as_slice(), &bytes].concat()).unwrap();
                return read_framed(&mut stream);
            }
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(patience).unwrap();
            socket.connect(server).unwrap();
            socket.send(&bytes).unwrap();
            let mut buffer = vec![0; 4096];
            let length = socket.recv(&mut buffer).unwrap();
            buffer.truncate(length);
            buffer
        })
    };
    let answer = tokio::task::spawn_blocking(asking).await.unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(answer.metadata.id, id);
    answer
}

fn data(answer: &Message) -> Vec<String> {
    answer.answers.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn names_of_the_cluster_are_answered_through_the_service() {
    on_a_host(|host| async move {
        let dir = tempfile::tempdir().unwrap();
        let network = pods(dir.path()).await;
        let pod = Netns::new();
        network.attach(&pod.path(), "pod", &[]).await.unwrap();
        let (_proxy, _) = dns(dir.path(), "192.0.2.2").await;

        for from in [&pod, &host] {
            for tcp in [false, true] {
                let answer = ask(from, &question("Web.default.svc.cluster.local.", RecordType::A), tcp).await;
                assert_eq!(data(&answer), ["10.96.0.7"]);
                assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
                assert!(answer.answers[0].name.eq_case(&answer.queries[0].name), "the name as asked");
                assert_eq!(answer.edns, None, "none was offered");
            }
        }
        let missing = ask(&pod, &question("none.default.svc.cluster.local.", RecordType::A), false).await;
        assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(missing.authorities.len(), 1);
        let other = ask(&pod, &question("web.default.svc.cluster.local.", RecordType::AAAA), false).await;
        assert_eq!((other.metadata.response_code, other.authorities.len()), (ResponseCode::NoError, 1));

        // What does not fit is cut, and whole over TCP or with more room.
        let many = question("many.default.svc.cluster.local.", RecordType::A);
        let cut = ask(&pod, &many, false).await;
        assert!(cut.metadata.truncation && cut.answers.is_empty());
        let whole = ask(&pod, &many, true).await;
        assert_eq!(whole.answers.len(), 100);
        let again = ask(&pod, &many, true).await;
        assert_ne!(data(&whole)[0], data(&again)[0], "another one is the first");
        let mut roomy = question("web.default.svc.cluster.local.", RecordType::A);
        roomy.set_edns(Edns::new());
        assert!(ask(&pod, &roomy, false).await.edns.is_some());

        let near = ask(&pod, &question("near.default.svc.cluster.local.", RecordType::A), false).await;
        assert_eq!(data(&near), ["web.default.svc.cluster.local.", "10.96.0.7"]);
        let circle = ask(&pod, &question("self.default.svc.cluster.local.", RecordType::A), false).await;
        assert_eq!(circle.metadata.response_code, ResponseCode::ServFail);
    });
}

#[test]
fn other_names_are_asked_of_the_hosts_name_servers_once() {
    on_a_host(|_| async move {
        let world = outside();
        let asked = world_server(&world, None);
        let dir = tempfile::tempdir().unwrap();
        let network = pods(dir.path()).await;
        let pod = Netns::new();
        network.attach(&pod.path(), "pod", &[]).await.unwrap();
        let (_proxy, _) = dns(dir.path(), "192.0.2.2").await;

        for name in ["www.example.org.", "WWW.example.org."] {
            let answer = ask(&pod, &question(name, RecordType::A), false).await;
            assert_eq!(data(&answer), ["192.0.2.99"]);
            assert_eq!(answer.queries[0].name.to_ascii(), name);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1, "kept");
        let alias = ask(&pod, &question("away.default.svc.cluster.local.", RecordType::A), false).await;
        assert_eq!(data(&alias), ["www.example.org.", "192.0.2.99"]);
        assert_eq!(asked.load(Ordering::SeqCst), 1, "an alias leads to what is kept");

        let big = question("big.example.org.", RecordType::TXT);
        assert!(ask(&pod, &big, false).await.metadata.truncation);
        assert_eq!(ask(&pod, &big, true).await.answers.len(), 1);

        // A changed resolv.conf counts from the next question on; a server that is not there does not end the world.
        std::fs::write(dir.path().join("resolv.conf"), "nameserver 192.0.2.3\nnameserver 192.0.2.2\n")
            .unwrap();
        let late = ask(&pod, &question("late.example.org.", RecordType::A), false).await;
        assert_eq!(data(&late), ["192.0.2.99"]);
    });
}

#[test]
fn a_name_server_that_asks_back_goes_round_once() {
    on_a_host(|_| async move {
        let world = outside();
        let asked = world_server(&world, Some("10.244.0.1:10053"));
        let dir = tempfile::tempdir().unwrap();
        let network = pods(dir.path()).await;
        let pod = Netns::new();
        network.attach(&pod.path(), "pod", &[]).await.unwrap();
        let (_proxy, address) = dns(dir.path(), "192.0.2.2").await;
        assert_eq!(address.port(), 10_053);
        world.run(|| ip("route add 10.244.0.0/16 via 192.0.2.1"));

        let answer = ask(&pod, &question("loop.example.org.", RecordType::A), false).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        assert_eq!(asked.load(Ordering::SeqCst), 3, "the tries of one question, and no more");
    });
}

#[test]
fn a_held_port_is_not_in_the_way() {
    on_a_host(|_| async move {
        let wanted = "127.0.0.1:10053".parse().unwrap();
        let first = Listener::bind(wanted).unwrap();
        let second = Listener::bind(wanted).unwrap();
        assert_eq!(first.address(), wanted);
        assert_ne!(second.address().port(), wanted.port());
        // An address that is not there yet can be listened on.
        Listener::bind("10.99.0.1:10053".parse().unwrap()).unwrap();
        let names: BTreeMap<u16, ()> = [first, second].iter().map(|l| (l.address().port(), ())).collect();
        assert_eq!(names.len(), 2);
    });
}

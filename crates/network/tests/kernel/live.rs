//! The whole of it: objects in an API lead packets and answer questions.

use std::{
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    path::Path,
    time::Duration,
};

use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RecordType},
};
use serde_json::{Value, json};
use tiphys_network::{Proxy, dns, proxy};

use crate::{
    api::Api,
    proxy::{INSTANCE, pods},
    support::{Netns, nft, on_a_host},
};

fn service(name: &str, cluster_ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
                 "ports": [{"port": 80, "protocol": "TCP"}]},
    })
}

fn slice(service: &str, address: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{service}-1"), "namespace": "default",
                     "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
    })
}

/// Asks until the answer is the wanted one: between an object's change and the kernel's lies a watch, whose end no
/// test can see but by its effect. Gives up after a time that only a failing test takes.
pub(crate) async fn until<T: PartialEq + std::fmt::Debug + Send + 'static>(
    wanted: T,
    ask: impl Fn() -> T + Clone + Send + 'static,
) {
    let mut last = None;
    for _ in 0..200 {
        let answer = tokio::task::spawn_blocking(ask.clone()).await.unwrap();
        if answer == wanted {
            return;
        }
        last = Some(answer);
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("waited for {wanted:?}, last was {last:?}");
}

pub(crate) fn resolve(from: &Netns, name: &'static str) -> Vec<String> {
    from.run(move || {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut buffer = [0; 512];
        let asked = socket
            .connect("10.96.0.10:53")
            .and_then(|()| socket.send(&query.to_vec().unwrap()))
            .and_then(|_| socket.recv(&mut buffer));
        match asked {
            Ok(length) => {
                let answer = Message::from_vec(&buffer[..length]).unwrap();
                answer.answers.iter().map(|record| record.data.to_string()).collect()
            }
            Err(error) => vec![error.to_string()],
        }
    })
}

pub(crate) fn dns_config(dir: &Path) -> dns::Config {
    dns::Config {
        node: "here".to_owned(),
        resolv_conf: dir.join("resolv.conf"),
        ..dns::Config::new([10, 244, 0, 1].into())
    }
}

pub(crate) fn proxy_config() -> proxy::Config {
    proxy::Config {
        instance: INSTANCE,
        service_cidr: "10.96.0.0/16".parse().unwrap(),
        pod_cidr: "10.244.0.0/16".parse().unwrap(),
        node: "here".to_owned(),
        announced: Vec::new(),
    }
}

#[test]
fn what_the_api_says_is_what_packets_do() {
    on_a_host(|_| async move {
        let dir = tempfile::tempdir().unwrap();
        let network = pods(dir.path()).await;
        let (a, b, client) = (Netns::new(), Netns::new(), Netns::new());
        for (id, netns) in [("a", &a), ("b", &b), ("client", &client)] {
            network.attach(&netns.path(), id, &[]).await.unwrap();
        }
        a.serve(8080, "a");
        b.serve(8080, "b");
        let ask = {
            let client = client.clone();
            move || client.ask("10.96.0.7:80").map(|(name, _)| name).unwrap_or_else(|e| e.kind().to_string())
        };
        let resolve = {
            let client = client.clone();
            move || resolve(&client, "web.default.svc.cluster.local.")
        };

        let api = Api::new();
        api.put("services", service("web", "10.96.0.7"));
        api.put("endpointslices", slice("web", "10.244.0.2"));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let proxy = tokio::spawn(Proxy::run(api.client(), proxy_config(), async {
            // Dropped is stopped, too.
            let _ = stopped.await;
        }));
        let dns = tokio::spawn(dns::run(
            api.client(),
            api.client(),
            dns_config(dir.path()),
            std::future::pending(),
        ));

        until("a".to_owned(), ask.clone()).await;
        until(vec!["10.96.0.7".to_owned()], resolve.clone()).await;
        api.put("endpointslices", slice("web", "10.244.0.3"));
        until("b".to_owned(), ask.clone()).await;

        // Somebody flushes all rules of the host. What was ours comes back.
        nft("flush ruleset");
        until("b".to_owned(), ask.clone()).await;
        nft(&format!("flush table ip {}", INSTANCE.service_table()));
        until("b".to_owned(), ask.clone()).await;

        api.delete("services", "web");
        until("connection refused".to_owned(), ask.clone()).await;
        until(Vec::new(), resolve).await;

        // The proxy stops; its rules do not, and the next one takes them over with what changed meanwhile.
        api.put("services", service("web", "10.96.0.7"));
        until("b".to_owned(), ask.clone()).await;
        stop.send(()).unwrap();
        proxy.await.unwrap().unwrap();
        assert_eq!(ask(), "b");
        api.put("endpointslices", slice("web", "10.244.0.2"));
        let _proxy = tokio::spawn(Proxy::run(api.client(), proxy_config(), std::future::pending()));
        until("a".to_owned(), ask).await;
        dns.abort();
    });
}

pub(crate) fn node(name: &str, address: &str, zone: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}],
                   "addresses": [{"type": "InternalIP", "address": address}]},
    })
}

#[test]
fn a_node_that_changes_its_zone_asks_other_endpoints() {
    on_a_host(|_| async move {
        let dir = tempfile::tempdir().unwrap();
        let network = pods(dir.path()).await;
        let (a, b, client) = (Netns::new(), Netns::new(), Netns::new());
        for (id, netns) in [("a", &a), ("b", &b), ("client", &client)] {
            network.attach(&netns.path(), id, &[]).await.unwrap();
        }
        a.serve(8080, "a");
        b.serve(8080, "b");
        let api = Api::new();
        api.put("nodes", node("here", "192.0.2.1", "z1"));
        api.put("services", service("web", "10.96.0.7"));
        let mut both = slice("web", "10.244.0.2");
        both["endpoints"] = json!([
            {"addresses": ["10.244.0.2"], "hints": {"forZones": [{"name": "z1"}]}},
            {"addresses": ["10.244.0.3"], "hints": {"forZones": [{"name": "z2"}]}},
        ]);
        api.put("endpointslices", both);
        let _proxy = tokio::spawn(Proxy::run(api.client(), proxy_config(), std::future::pending()));
        let thrice = move || {
            let ask = || client.ask("10.96.0.7:80").map_or_else(|e| e.kind().to_string(), |(name, _)| name);
            [ask(), ask(), ask()]
        };
        let all = |name: &str| [name; 3].map(str::to_owned);
        until(all("a"), thrice.clone()).await;
        api.put("nodes", node("here", "192.0.2.1", "z2"));
        until(all("b"), thrice).await;
    });
}

#[test]
fn what_another_proxy_or_none_serves_is_left_alone() {
    on_a_host(|_| async move {
        let dir = tempfile::tempdir().unwrap();
        let network = pods(dir.path()).await;
        let (a, client) = (Netns::new(), Netns::new());
        for (id, netns) in [("a", &a), ("client", &client)] {
            network.attach(&netns.path(), id, &[]).await.unwrap();
        }
        a.serve(8080, "a");
        let api = Api::new();
        api.put("services", service("web", "10.96.0.7"));
        api.put("endpointslices", slice("web", "10.244.0.2"));
        let _proxy = tokio::spawn(Proxy::run(api.client(), proxy_config(), std::future::pending()));
        let ask = move || client.ask("10.96.0.7:80").map_or_else(|e| e.kind().to_string(), |(name, _)| name);
        until("a".to_owned(), ask.clone()).await;
        let labelled = |mut object: Value, label: &str| {
            object["metadata"]["labels"][label] = "".into();
            object
        };
        let others = labelled(service("web", "10.96.0.7"), "service.kubernetes.io/service-proxy-name");
        api.put("services", others);
        until("connection refused".to_owned(), ask.clone()).await;
        api.put("services", service("web", "10.96.0.7"));
        until("a".to_owned(), ask.clone()).await;
        api.put("endpointslices", labelled(slice("web", "10.244.0.2"), "service.kubernetes.io/headless"));
        until("connection refused".to_owned(), ask).await;
    });
}

/// The status, the weight and the body of what is answered at a port of the node, or why nothing is.
fn health(host: &Netns, port: u16) -> (String, String, Value) {
    host.run(move || {
        let mut text = String::new();
        let asked = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: balancer\r\n\r\n")?;
            stream.read_to_string(&mut text)
        });
        if let Err(error) = asked {
            return (error.kind().to_string(), String::new(), Value::Null);
        }
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let weight = head.lines().find_map(|line| line.strip_prefix("x-load-balancing-endpoint-weight: "));
        let (status, weight) = (head.split(' ').nth(1).unwrap(), weight.unwrap_or_default());
        (status.to_owned(), weight.to_owned(), serde_json::from_str(body).unwrap())
    })
}

#[test]
fn load_balancers_learn_whether_the_node_has_endpoints() {
    on_a_host(|host| async move {
        let api = Api::new();
        let mut web = service("web", "10.96.0.7");
        web["spec"]["type"] = "LoadBalancer".into();
        web["spec"]["externalTrafficPolicy"] = "Local".into();
        web["spec"]["healthCheckNodePort"] = 32_100.into();
        api.put("services", web.clone());
        let endpoints = |here: Value| {
            let mut slice = slice("web", "10.244.0.2");
            slice["ports"]
                .as_array_mut()
                .unwrap()
                .push(json!({"name": "more", "port": 8081, "protocol": "TCP"}));
            slice["endpoints"] = json!([
                {"addresses": ["10.244.0.2"], "nodeName": "here", "conditions": here},
                {"addresses": ["10.244.0.3"], "nodeName": "there"},
            ]);
            slice
        };
        api.put("endpointslices", endpoints(json!({"ready": true})));
        let _proxy = tokio::spawn(Proxy::run(api.client(), proxy_config(), std::future::pending()));
        let at = |port: u16| {
            let host = host.clone();
            move || health(&host, port)
        };
        let answer = |status: &str, endpoints: u32| {
            let body = json!({"service": {"namespace": "default", "name": "web"},
                "localEndpoints": endpoints, "serviceProxyHealthy": true});
            (status.to_owned(), endpoints.to_string(), body)
        };
        let nobody = ("connection refused".to_owned(), String::new(), Value::Null);

        until(answer("200", 1), at(32_100)).await;
        api.put("endpointslices", endpoints(json!({"ready": false, "serving": true, "terminating": true})));
        until(answer("503", 0), at(32_100)).await;
        // Somebody else has the new port, for a while.
        let other = host.run(|| std::net::TcpListener::bind(("0.0.0.0", 32_101)).unwrap());
        web["spec"]["healthCheckNodePort"] = 32_101.into();
        api.put("services", web.clone());
        until(nobody.clone(), at(32_100)).await;
        drop(other);
        until(answer("503", 0), at(32_101)).await;
        web["spec"]["externalTrafficPolicy"] = "Cluster".into();
        api.put("services", web);
        until(nobody, at(32_101)).await;
    });
}

#[test]
fn the_dns_service_is_published_and_put_right() {
    on_a_host(|_| async move {
        let dir = tempfile::tempdir().unwrap();
        let api = Api::new();
        let config = dns_config(dir.path());
        dns::publish(api.client(), &config, "10.244.0.1:10053".parse().unwrap()).await.unwrap();
        dns::publish(api.client(), &config, "10.244.0.1:10053".parse().unwrap()).await.unwrap();
        let published = api.get("endpointslices", "kube-dns-here").unwrap();
        assert_eq!(published["metadata"]["resourceVersion"], "2", "nothing to put right");

        let mut changed = api.get("services", "kube-dns").unwrap();
        changed["spec"]["ports"] = json!([]);
        changed["metadata"]["annotations"] = json!({"kept": "yes"});
        api.put("services", changed);
        dns::publish(api.client(), &config, "10.244.0.1:4444".parse().unwrap()).await.unwrap();
        let service = api.get("services", "kube-dns").unwrap();
        assert_eq!(service["spec"]["ports"].as_array().unwrap().len(), 2);
        assert_eq!(service["metadata"]["annotations"]["kept"], "yes");
        assert_eq!(api.get("endpointslices", "kube-dns-here").unwrap()["ports"][0]["port"], 4444);
    });
}

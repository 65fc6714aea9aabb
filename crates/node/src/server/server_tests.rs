use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::testing::{World, isolated};

#[test]
fn queries_are_decoded() {
    let query = Query::parse("command=sh&command=-c&command=a+b%26c&input=1&tty=false&bad=%zz");
    assert_eq!(query.all("command"), ["sh", "-c", "a b&c"]);
    assert!(query.flag(&["input", "stdin"]) && !query.flag(&["tty"]));
    assert_eq!(query.first("bad"), None);
    assert_eq!(percent_decode("a%2"), None);
}

type Sender = hyper::client::conn::http1::SendRequest<Empty<Bytes>>;

/// Connects through the door for an API server in the same process, or through the other one.
async fn connect(kubelet: &Kubelet, access: Access, caller: Caller) -> Sender {
    let (here, there) = tokio::io::duplex(64 * 1024);
    let kubelet = kubelet.clone();
    tokio::spawn(async move { kubelet.serve(there, Arc::new(access), caller).await });
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(here)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

async fn get(sender: &mut Sender, path: &str, token: Option<&str>) -> (u16, String) {
    let mut request = Request::get(path).header("host", "node");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[test]
fn nothing_follows_the_answer_to_a_head() {
    isolated(|| async {
        let world = World::start();
        let (here, there) = tokio::io::duplex(64 * 1024);
        let kubelet = world.kubelet.clone();
        let access = Arc::new(Access::Trusted);
        tokio::spawn(async move { kubelet.serve(there, access, Caller::default()).await });
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(here));
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let request = Request::head("https://node/none").body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), Bytes::new());
    });
}

#[test]
fn pods_logs_and_refusals_are_answered() {
    isolated(|| async {
        let world = World::start();
        let path = world.create("web", json!({"containers": [{"name": "c"}]}));
        world.ready(&path).await;
        let log = world.config.log_dir.join("ns_web_uid-web/c/0.log");
        std::fs::write(&log, "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stdout F two\n")
            .unwrap();
        let mut door = connect(&world.kubelet, Access::Trusted, Caller::default()).await;
        assert_eq!(get(&mut door, "/healthz", None).await, (200, "ok".into()));
        let (_, pods) = get(&mut door, "/pods", None).await;
        assert!(pods.contains("\"uid-web\""), "{pods}");
        assert_eq!(get(&mut door, "/containerLogs/ns/web/c?tailLines=1", None).await, (200, "two\n".into()));
        assert_eq!(get(&mut door, "/containerLogs/ns/web/none", None).await.0, 404);
        assert_eq!(get(&mut door, "/containerLogs/ns/none/c", None).await.0, 404);
        assert_eq!(get(&mut door, "/containerLogs/ns/web/c?tailLines=x", None).await.0, 400);
        let (code, text) = get(&mut door, "/containerLogs/ns/web/c?previous=true", None).await;
        assert_eq!(
            (code, text.as_str()),
            (400, "previous terminated container \"c\" in pod \"web\" not found")
        );
        assert_eq!(
            get(&mut door, "/exec/ns/web/c?command=x&output=1", None).await.0,
            400,
            "no upgrade was asked for"
        );
        assert_eq!(get(&mut door, "/logs/", None).await.0, 501);
        assert_eq!(get(&mut door, "/nothing", None).await.0, 404);
        let (_, stats) = get(&mut door, "/stats/summary", None).await;
        let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
        assert_eq!(stats["pods"][0]["podRef"]["name"], "web");
        assert!(stats["node"]["memory"]["workingSetBytes"].as_u64().unwrap() > 0);
    });
}

#[test]
fn prometheus_reads_what_the_node_and_its_pods_use() {
    isolated(|| async {
        let world = World::start();
        let path = world.create("web", json!({"containers": [{"name": "c", "image": "i"}]}));
        world.ready(&path).await;
        let mut door = connect(&world.kubelet, Access::Trusted, Caller::default()).await;
        let (_, own) = get(&mut door, "/metrics", None).await;
        for line in ["kubelet_desired_pods 1", "kubelet_running_containers{container_state=\"running\"} 1"] {
            assert!(own.lines().any(|l| l == line), "{line} is not in {own}");
        }
        assert!(own.contains("process_resident_memory_bytes "), "{own}");
        let (_, resource) = get(&mut door, "/metrics/resource", None).await;
        let used = "container_cpu_usage_seconds_total{container=\"c\",namespace=\"ns\",pod=\"web\"} 2.5";
        assert!(resource.lines().any(|l| l == used), "{resource}");
        let started = "container_start_time_seconds{container=\"c\",namespace=\"ns\",pod=\"web\"} ";
        assert!(resource.lines().any(|l| l.starts_with(started)), "{resource}");
        let (_, probes) = get(&mut door, "/metrics/probes", None).await;
        assert!(probes.contains("# TYPE prober_probe_total counter"), "{probes}");
        let (_, cadvisor) = get(&mut door, "/metrics/cadvisor", None).await;
        let line = |start: &str| cadvisor.lines().find(|l| l.starts_with(start)).map(str::to_owned).unwrap();
        let cpu = line("container_cpu_usage_seconds_total{container=\"c\",cpu=\"total\",");
        assert!(
            cpu.contains("image=\"i\",name=\"") && cpu.ends_with("namespace=\"ns\",pod=\"web\"} 2.5"),
            "{cpu}"
        );
        assert!(line("container_memory_usage_bytes{container=\"c\",").ends_with(" 3000"));
        assert!(line("container_memory_working_set_bytes{container=\"c\",").ends_with(" 2000"));
        assert!(line("machine_cpu_cores ").len() > "machine_cpu_cores ".len());
        assert_eq!(get(&mut door, "/metrics/none", None).await.0, 404);
    });
}

#[test]
fn a_stream_is_passed_through_to_the_runtime() {
    isolated(|| async {
        let world = World::start();
        let path = world.create("web", json!({"containers": [{"name": "c"}]}));
        world.ready(&path).await;
        // The runtime's side: agrees to the upgrade and sends back whatever it gets, in capitals.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        world.runtime.stream_at(format!("http://{}/exec/token", listener.local_addr().unwrap()));
        let runtime = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            let mut text = [0; 5];
            stream.read_exact(&mut text).await.unwrap();
            stream.write_all(text.to_ascii_uppercase().as_slice()).await.unwrap();
            String::from_utf8(head).unwrap()
        });
        let mut door = connect(&world.kubelet, Access::Trusted, Caller::default()).await;
        let request = Request::post("/exec/ns/web/c?command=sh&command=-c&input=1&output=1&tty=1")
            .header("host", "node")
            .header("connection", "Upgrade")
            .header("upgrade", "SPDY/3.1")
            .header("authorization", "Bearer secret")
            .header("x-stream-protocol-version", "v4.channel.k8s.io")
            .body(Empty::new())
            .unwrap();
        let mut response = door.send_request(request).await.unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        stream.write_all(b"hello").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "HELLO");
        let head = runtime.await.unwrap().to_lowercase();
        assert!(head.starts_with("post /exec/token http/1.1\r\n"), "{head}");
        assert!(
            head.contains("upgrade: spdy/3.1") && head.contains("x-stream-protocol-version: v4"),
            "{head}"
        );
        assert!(!head.contains("secret"), "credentials go no further than the node");
        assert!(world.runtime.calls().contains(&"stream sh -c tty=true stdin=true".to_owned()));
    });
}

#[tokio::test]
async fn the_network_door_asks_the_api_server() {
    let api = crate::testing::api::Api::default();
    let config = crate::Config::new("n", "/nonexistent".into(), "/none");
    let kubelet =
        Kubelet::new(config, api.client(), crate::testing::runtime::FakeRuntime::default().client());
    let delegated = || Access::delegated(api.client(), "n".into());
    let mut door = connect(&kubelet, delegated(), Caller::default()).await;
    assert_eq!(get(&mut door, "/pods", None).await.0, 401);
    assert_eq!(get(&mut door, "/pods", Some("wrong")).await.0, 401);
    let (code, text) = get(&mut door, "/pods", Some("token-reader")).await;
    assert_eq!(code, 200, "{text}");
    let (code, text) = get(&mut door, "/exec/ns/p/c", Some("token-reader")).await;
    assert_eq!(code, 403);
    assert!(text.contains("user=reader") && text.contains("subresource(s)=[proxy]"), "{text}");
    let peer = Caller { peer: Some(("kube-apiserver".into(), vec!["system:masters".into()])) };
    let mut door = connect(&kubelet, delegated(), peer).await;
    assert_eq!(get(&mut door, "/pods", None).await.0, 200);
    assert_eq!(get(&mut door, "/containerLogs/ns/p/c", None).await.0, 404);
}

use super::*;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn schedule(successes: u32, failures: u32) -> Schedule {
    Schedule {
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        successes,
        failures,
    }
}

#[test]
fn verdicts_change_by_thresholds() {
    let good = Outcome::Success;
    let bad = Outcome::Failure("x".into());
    let unknown = Outcome::Unknown("x".into());
    let mut t = Tracker::new(schedule(2, 3), false);
    let take = |t: &mut Tracker, o: &Outcome| t.take(Purpose::Readiness, o);
    assert_eq!(take(&mut t, &good), None);
    assert_eq!(take(&mut t, &bad), None);
    assert_eq!(take(&mut t, &good), None);
    assert_eq!(take(&mut t, &unknown), None);
    assert_eq!(take(&mut t, &good), Some(true));
    assert_eq!(take(&mut t, &good), None);
    assert_eq!(take(&mut t, &bad), None);
    assert_eq!(take(&mut t, &bad), None);
    assert_eq!(take(&mut t, &bad), Some(false));
    assert_eq!(take(&mut t, &bad), None);
}

#[test]
fn a_startup_probe_that_never_succeeds_ends_the_container() {
    let mut t = Tracker::new(schedule(1, 2), false);
    let bad = Outcome::Failure("x".into());
    assert_eq!(t.take(Purpose::Startup, &bad), None);
    assert_eq!(t.take(Purpose::Startup, &bad), Some(false));
}

#[test]
fn the_defaults_are_the_apis() {
    let s = Schedule::of(&Probe::default());
    assert_eq!((s.period.as_secs(), s.timeout.as_secs(), s.successes, s.failures), (10, 1, 1, 3));
}

fn target() -> Target {
    let cri = tiphys_cri::Client::connect("unix:///nonexistent").unwrap();
    Target { cri, container: ContainerId("c".into()), ip: "127.0.0.1".into() }
}

/// Answers each connection with a head from the list, then with the last of them.
async fn server(answers: Vec<String>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    tokio::spawn(async move {
        for i in 0.. {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let mut request = vec![0; 4096];
            let n = stream.read(&mut request).await.unwrap_or(0);
            log.lock().push(String::from_utf8_lossy(&request[..n]).into_owned());
            let answer = &answers[usize::min(i, answers.len() - 1)];
            let text = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(text.as_bytes()).await.ok();
        }
    });
    (port, seen)
}

fn request(port: u16, path: &str, headers: &[(&str, &str)]) -> HttpRequest {
    let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    HttpRequest { tls: false, host: None, port, path: path.to_owned(), headers, purpose: "probe" }
}

async fn attempt(request: HttpRequest) -> Outcome {
    Handler::Http(request).attempt(&target(), Duration::from_secs(5)).await
}

fn status(code: u16) -> Outcome {
    Outcome::Failure(format!("HTTP probe failed with statuscode: {code}"))
}

#[tokio::test]
async fn http_probes_judge_by_the_status_and_hooks_do_not() {
    let answers = ["200 OK", "302 Found", "500 Oops", "404 No"];
    let (port, seen) = server(answers.map(str::to_owned).to_vec()).await;
    let ask = || attempt(request(port, "/x?y=1", &[("X-A", "b")]));
    assert_eq!(ask().await, Outcome::Success);
    assert!(matches!(ask().await, Outcome::Warning(_)), "it leads nowhere");
    assert_eq!(ask().await, status(500));
    assert_eq!(ask().await, status(404));
    let hook = HttpRequest { purpose: "lifecycle", ..request(port, "/", &[]) };
    assert_eq!(attempt(hook).await, Outcome::Success);
    let first = seen.lock()[0].to_lowercase();
    for part in ["get /x?y=1 ", "x-a: b", "user-agent: kube-probe/1.37", "accept: */*", "host: 127.0.0.1:"] {
        assert!(first.contains(part), "{part} in {first}");
    }
    assert!(seen.lock()[4].to_lowercase().contains("user-agent: kube-lifecycle/1.37"));
}

#[tokio::test]
async fn headers_of_the_spec_replace_the_usual_ones() {
    let (port, seen) = server(vec!["200 OK".into()]).await;
    let headers = [("Host", "example.com"), ("user-agent", ""), ("Accept", ""), ("X-A", "b"), ("X-A", "c")];
    assert_eq!(attempt(request(port, "/", &headers)).await, Outcome::Success);
    let seen = seen.lock()[0].to_lowercase();
    assert_eq!(seen.matches("host:").count(), 1, "{seen}");
    assert!(seen.contains("host: example.com") && seen.contains("x-a: b\r\nx-a: c"), "{seen}");
    assert!(!seen.contains("user-agent") && !seen.contains("accept"), "{seen}");
}

#[tokio::test]
async fn redirects_are_followed_on_the_host_alone() {
    let to = |location: &str| format!("302 Found\r\nLocation: {location}");
    let (port, seen) = server(vec![to("b?c=1"), to("/d"), "200 OK".into()]).await;
    assert_eq!(attempt(request(port, "/a/x?y", &[])).await, Outcome::Success);
    let paths: Vec<String> = seen.lock().iter().map(|r| r.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(paths, ["/a/x?y", "/a/b?c=1", "/d"]);

    let (elsewhere, _) = server(vec!["500 Oops".into()]).await;
    let (port, _) = server(vec![to(&format!("http://127.0.0.1:{elsewhere}/"))]).await;
    assert_eq!(attempt(request(port, "/", &[])).await, status(500), "another port is the same host");

    let (port, _) = server(vec![to("http://localhost/")]).await;
    assert!(matches!(attempt(request(port, "/", &[])).await, Outcome::Warning(_)));

    let (port, seen) = server(vec![to("/")]).await;
    let endless = format!("Get \"http://127.0.0.1:{port}/\": stopped after 10 redirects");
    assert_eq!(attempt(request(port, "/", &[])).await, Outcome::Failure(endless));
    assert_eq!(seen.lock().len(), 11);
}

#[tokio::test]
async fn certificates_are_not_judged() {
    let dir = tempfile::tempdir().unwrap();
    let pki = tiphys_pki::Pki::open(dir.path()).unwrap();
    let certificate = pki.rotating(tiphys_pki::Leaf::kubelet_serving("other", &[])).unwrap();
    let config = tiphys_pki::server_config(certificate, &pki.client_trust().unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = tokio_rustls::TlsAcceptor::from(config).accept(stream).await.unwrap();
        let mut request = vec![0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        stream.shutdown().await.ok();
    });
    let request = HttpRequest { tls: true, ..request(port, "/", &[]) };
    assert_eq!(attempt(request).await, Outcome::Success);
}

/// A health service that knows "good" and "bad", takes its time for "slow", and knows no other.
async fn health_service(implemented: bool) -> u16 {
    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::Frame;
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let answer = move |request: ::http::Request<hyper::body::Incoming>| async move {
        let path = request.uri().path().to_owned();
        let asked = request.into_body().collect().await.unwrap().to_bytes();
        let asked = String::from_utf8_lossy(asked.get(7..).unwrap_or_default()).into_owned();
        if asked == "slow" {
            std::future::pending::<()>().await;
        }
        let (status, message, code) = match asked.as_str() {
            _ if !implemented || path != "/grpc.health.v1.Health/Check" => (None, "unknown service", "12"),
            "good" => (Some(1), "", "0"),
            "bad" => (Some(2), "", "0"),
            _ => (None, "unknown service", "5"),
        };
        let trailers = ::http::HeaderMap::from_iter([
            ("grpc-status".parse().unwrap(), ::http::HeaderValue::from_static(code)),
            ("grpc-message".parse().unwrap(), ::http::HeaderValue::from_static(message)),
        ]);
        let data = status.map(|status| Frame::data(bytes::Bytes::from(vec![0, 0, 0, 0, 2, 8, status])));
        let frames =
            data.into_iter().chain([Frame::trailers(trailers)]).map(Ok::<_, std::convert::Infallible>);
        let body = StreamBody::new(futures::stream::iter(frames.collect::<Vec<_>>()));
        let response = ::http::Response::builder().header("content-type", "application/grpc").body(body);
        Ok::<_, std::convert::Infallible>(response.unwrap())
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(answer);
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    port
}

#[tokio::test]
async fn grpc_probes_ask_about_a_service() {
    let port = health_service(true).await;
    let ask = async |port, service: &str, timeout| {
        let handler = Handler::Grpc { port, service: service.to_owned() };
        handler.attempt(&target(), Duration::from_millis(timeout)).await
    };
    let failure = |text: &str| Outcome::Failure(text.to_owned());
    assert_eq!(ask(port, "good", 5000).await, Outcome::Success);
    assert_eq!(ask(port, "bad", 5000).await, failure("service unhealthy (responded with \"NOT_SERVING\")"));
    assert_eq!(
        ask(port, "none", 5000).await,
        failure("error: health rpc probe failed: rpc error: code = NotFound desc = unknown service")
    );
    assert_eq!(ask(port, "slow", 1000).await, failure("timeout: health rpc did not complete within 1s"));
    let other = health_service(false).await;
    assert_eq!(
        ask(other, "good", 5000).await,
        failure(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service"
        )
    );
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let Outcome::Failure(text) = ask(closed, "", 5000).await else { panic!("nobody listens") };
    assert!(
        text.starts_with(&format!("error: failed to connect service at \"127.0.0.1:{closed}\": ")),
        "{text}"
    );
}

#[tokio::test]
async fn a_closed_port_fails_tcp_and_http() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tcp = Handler::Tcp { host: None, port };
    assert_eq!(tcp.attempt(&target(), Duration::from_secs(5)).await, Outcome::Success);
    drop(listener);
    let want = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(tcp.attempt(&target(), Duration::from_secs(5)).await, Outcome::Failure(want.clone()));
    let outcome = attempt(request(port, "/", &[])).await;
    assert_eq!(outcome, Outcome::Failure(format!("Get \"http://127.0.0.1:{port}/\": {want}")));
}

#[tokio::test(start_paused = true)]
async fn a_task_reports_changes_only() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
    let task = Task {
        container: ContainerId("c".into()),
        started_at: Timestamp::now(),
        purpose: Purpose::Readiness,
        schedule: schedule(1, 1),
        handler: Handler::Tcp { host: None, port },
        target: target(),
        verdict: false,
        tries: Tries::of(["Readiness", "c", "p", "ns", "u"].map(str::to_owned)),
        spread: false,
    };
    let task = tokio::spawn(task.run(move |news| tx.send(news.good).unwrap_or(()), |_, _| {}));
    assert_eq!(rx.recv().await, Some(true));
    drop(listener);
    assert_eq!(rx.recv().await, Some(false));
    assert!(rx.try_recv().is_err());
    let shown = || {
        let mut text = tiphys_metrics::Exposition::new(tiphys_metrics::Format::Text);
        crate::counts::expose_probes(&mut text);
        text.finish()
    };
    let labels = r#"probe_type="Readiness",container="c",pod="p",namespace="ns",pod_uid="u""#;
    for result in ["successful", "failed"] {
        let line = format!("prober_probe_total{{{labels},result=\"{result}\"}} ");
        assert!(shown().contains(&line), "{line} is not in {}", shown());
    }
    task.abort();
    assert!(task.await.is_err());
    assert!(!shown().contains(labels), "what is not probed any more is not shown");
}

use super::*;
use std::sync::{Arc, Mutex};
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

/// Answers each connection with a status line from the list, then with the last of them.
async fn server(answers: &'static [&'static str]) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    tokio::spawn(async move {
        for i in 0.. {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let mut request = vec![0; 4096];
            let n = stream.read(&mut request).await.unwrap_or(0);
            log.lock().unwrap().push(String::from_utf8_lossy(&request[..n]).into_owned());
            let answer = answers[usize::min(i, answers.len() - 1)];
            let text = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(text.as_bytes()).await.ok();
        }
    });
    (port, seen)
}

#[tokio::test]
async fn http_probes_judge_by_the_status() {
    let (port, seen) = server(&["200 OK", "302 Found", "500 Oops", "404 No"]).await;
    let request = HttpRequest {
        tls: false,
        host: None,
        port,
        path: "/x?y=1".into(),
        headers: vec![("X-A".into(), "b".into())],
    };
    let handler = Handler::Http(request);
    let target = target();
    let once = || handler.attempt(&target, Duration::from_secs(5));
    assert_eq!(once().await, Outcome::Success);
    assert_eq!(once().await, Outcome::Success);
    assert_eq!(once().await, Outcome::Failure("HTTP probe failed with statuscode: 500".into()));
    assert_eq!(once().await, Outcome::Failure("HTTP probe failed with statuscode: 404".into()));
    let first = seen.lock().unwrap()[0].to_lowercase();
    assert!(
        first.starts_with("get /x?y=1 ") && first.contains("x-a: b") && first.contains("kube-probe/"),
        "{first}"
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
    let request = HttpRequest { tls: false, host: None, port, path: "/".into(), headers: vec![] };
    let outcome = Handler::Http(request).attempt(&target(), Duration::from_secs(5)).await;
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
        spread: false,
    };
    let task = tokio::spawn(task.run(move |news| tx.send(news.good).unwrap_or(()), |_| {}));
    assert_eq!(rx.recv().await, Some(true));
    drop(listener);
    assert_eq!(rx.recv().await, Some(false));
    assert!(rx.try_recv().is_err());
    task.abort();
}

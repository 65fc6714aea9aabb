use http::StatusCode;
use tiphys_metrics::Format;
use tower::service_fn;

use super::*;
use crate::{Queue, Verdict};

/// The value of a series; 0 if there is none.
fn value(series: &str) -> f64 {
    let mut text = Exposition::new(Format::Text);
    expose(&mut text);
    let text = text.finish();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_queue_tells_what_it_does() {
    let of = |name: &str| value(&format!("workqueue_{name}{{name=\"tested\"}}")).round();
    let queue = Queue::new();
    for key in ["fails", "takes long", "takes long", "waits"] {
        queue.add(key.to_owned());
    }
    let look = |key: String| async move {
        match &*key {
            "fails" => Err("no"),
            "takes long" => {
                tokio::time::sleep(Duration::from_secs(1000)).await;
                Ok(Verdict::Done)
            }
            _ => Ok(Verdict::Done),
        }
    };
    let run = queue.run("tested", 1, look);
    assert!(tokio::time::timeout(Duration::from_secs(400), run).await.is_err());
    // The worker is gone with the run, in the middle of its work.
    assert_eq!((of("depth"), of("adds_total"), of("retries_total")), (1.0, 3.0, 1.0));
    assert_eq!((of("queue_duration_seconds_count"), of("work_duration_seconds_count")), (2.0, 1.0));
    assert_eq!((of("unfinished_work_seconds"), of("longest_running_processor_seconds")), (400.0, 400.0));
    queue.done(&"takes long".to_owned());
    assert_eq!((of("unfinished_work_seconds"), of("work_duration_seconds_sum")), (0.0, 400.0));
    assert_eq!(queue.next().await.as_deref(), Some("waits"));
    assert_eq!(of("queue_duration_seconds_sum"), 400.0);
    drop(queue);
    // The worker that was cut off lets go of it, too.
    tokio::task::yield_now().await;
    assert_eq!(of("adds_total"), 0.0, "it is no more");
}

#[tokio::test]
async fn a_client_tells_what_it_asked_for() {
    let inner = service_fn(|request: Request<()>| async move {
        match request.uri().path() {
            "/error" => Err("cut off"),
            path => {
                let code = if path == "/" { StatusCode::OK } else { StatusCode::NOT_FOUND };
                Ok(Response::builder().status(code).body(()).unwrap())
            }
        }
    });
    let mut counted = Counted::new(inner, "tested:1");
    for path in ["/", "/", "/nowhere", "/error"] {
        let request = Request::builder().method("PUT").uri(path).body(()).unwrap();
        assert_eq!(counted.call(request).await.is_err(), path == "/error");
    }
    let of = |code: &str| {
        value(&format!("rest_client_requests_total{{code=\"{code}\",method=\"PUT\",host=\"tested:1\"}}"))
    };
    assert_eq!((of("200"), of("404"), of("<error>")), (2.0, 1.0, 1.0));
    assert_eq!(value("rest_client_request_duration_seconds_count{verb=\"PUT\",host=\"tested:1\"}"), 4.0);
}

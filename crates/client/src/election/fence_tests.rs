use std::{convert::Infallible, time::Duration};

use kube::client::Body;
use tower::{ServiceExt, service_fn};

use super::*;

fn request(method: Method) -> Request<Body> {
    Request::builder().method(method).uri("/").body(Body::empty()).expect("a request")
}

async fn answered(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    drop(request);
    Ok(Response::new(Body::empty()))
}

#[tokio::test(start_paused = true)]
async fn writes_pass_until_the_deadline_and_reads_always() {
    let fence = Fence::new(Some(Instant::now() + Duration::from_secs(10)));
    let send = |method| fence.guard(service_fn(answered)).oneshot(request(method));
    tokio::time::advance(Duration::from_millis(9_999)).await;
    send(Method::POST).await.expect("in time");
    tokio::time::advance(Duration::from_millis(1)).await;
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let refused = send(method).await.expect_err("too late");
        assert!(refused.is::<NotLeading>(), "{refused}");
    }
    send(Method::GET).await.expect("it changes nothing");
    fence.extend(Some(Instant::now() + Duration::from_secs(1)));
    send(Method::POST).await.expect("renewed");
    fence.close();
    fence.extend(None);
    send(Method::POST).await.expect_err("closed for good");
}

#[tokio::test(start_paused = true)]
async fn writes_under_way_are_waited_for() {
    let fence = Fence::new(None);
    let gate = Arc::new(Notify::new());
    let slow = {
        let gate = gate.clone();
        service_fn(move |r: Request<Body>| {
            let gate = gate.clone();
            async move {
                gate.notified().await;
                answered(r).await
            }
        })
    };
    let writing = tokio::spawn(fence.guard(slow.clone()).oneshot(request(Method::POST)));
    let dropped = tokio::spawn(fence.guard(slow).oneshot(request(Method::POST)));
    tokio::task::yield_now().await;
    fence.close();
    let idle = tokio::spawn({
        let fence = fence.clone();
        async move { fence.idle().await }
    });
    dropped.abort();
    tokio::task::yield_now().await;
    assert!(!idle.is_finished(), "one is under way");
    gate.notify_one();
    writing.await.expect("no panic").expect("it passed before");
    idle.await.expect("no panic");
}

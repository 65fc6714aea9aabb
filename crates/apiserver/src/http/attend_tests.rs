use std::future::{pending, poll_fn};

use tokio::sync::oneshot;
use tokio::task::{Id, id};

use super::*;

/// A connection that brings what it is sent, until there is no more.
async fn bringing(bring: Bring, mut requests: tokio::sync::mpsc::UnboundedReceiver<Request>) -> Id {
    while let Some(request) = requests.recv().await {
        bring.execute(request);
    }
    id()
}

/// A request that tells which task it begins in, and ends when it is let go.
fn held() -> (Request, oneshot::Receiver<Id>, oneshot::Sender<()>) {
    let ((begun, begins), (ends, end)) = (oneshot::channel(), oneshot::channel());
    let request = async move {
        begun.send(id()).unwrap();
        // Whoever drops the sender lets it go, too.
        let _ = end.await;
    };
    (Box::pin(request), begins, ends)
}

#[tokio::test]
async fn one_request_at_a_time_is_answered_by_the_connections_task() {
    let (send, requests) = tokio::sync::mpsc::unbounded_channel();
    let connection = tokio::spawn(async move {
        let attendant = Attendant::new();
        let connection = std::pin::pin!(bringing(attendant.desk(), requests));
        attendant.run(connection).await
    });
    let (first, first_begins, first_ends) = held();
    send.send(first).unwrap();
    let first = first_begins.await.unwrap();
    let (second, second_begins, _second_ends) = held();
    send.send(second).unwrap();
    let second = second_begins.await.unwrap();
    first_ends.send(()).unwrap();
    // The place is free once the first has ended, which the connection's task sees before it takes the third.
    let (third, third_begins, third_ends) = held();
    send.send(third).unwrap();
    let third = third_begins.await.unwrap();
    third_ends.send(()).unwrap();
    drop(send);
    let connection = connection.await.unwrap();
    assert_eq!((first, third), (connection, connection));
    assert_ne!(second, connection);
}

#[tokio::test]
async fn a_request_ends_with_its_connection() {
    let (send, requests) = tokio::sync::mpsc::unbounded_channel();
    let (request, begins, mut ends) = held();
    let connection = tokio::spawn(async move {
        let attendant = Attendant::new();
        let connection = std::pin::pin!(bringing(attendant.desk(), requests));
        attendant.run(connection).await
    });
    let kept = send.clone();
    send.send(Box::pin(async move {
        // As a request holds on to its connection.
        let _kept = kept;
        request.await;
    }))
    .unwrap();
    begins.await.unwrap();
    connection.abort();
    ends.closed().await;
}

#[tokio::test]
async fn who_always_has_something_to_do_lets_others_have_their_turn() {
    let attendant = Attendant::new();
    let mut busy = std::pin::pin!(poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    tokio::select! {
        biased;
        () = attendant.run(busy.as_mut()) => unreachable!("it never ends"),
        () = tokio::task::yield_now() => {}
    }
}

#[tokio::test]
async fn only_what_was_woken_is_polled() {
    let attendant = Attendant::new();
    let (ends, end) = oneshot::channel::<()>();
    let bring = attendant.desk();
    let looked = Arc::new(Mutex::new(0));
    let mut request = Some(async move { drop(end.await) });
    let mut connection = std::pin::pin!(poll_fn(|_| {
        *looked.lock() += 1;
        if let Some(request) = request.take() {
            bring.execute(request);
        }
        Poll::<()>::Pending
    }));
    let mut running = std::pin::pin!(attendant.run(connection.as_mut()));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(running.as_mut().poll(&mut cx).is_pending());
    ends.send(()).unwrap();
    assert!(running.as_mut().poll(&mut cx).is_pending());
    assert_eq!(*looked.lock(), 1);
    assert!(matches!(*attendant.desk.seat.lock(), Seat::Free));
}

#[tokio::test]
async fn who_is_not_attended_to_gets_a_task() {
    let bring = Attendant::new().desk();
    let (begun, begins) = oneshot::channel();
    bring.execute(async move {
        begun.send(()).unwrap();
        pending::<()>().await;
    });
    begins.await.unwrap();
}

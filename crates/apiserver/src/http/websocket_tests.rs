use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::{Error, client::IntoClientRequest};

use super::*;

fn refusal(status: Status) -> Response<Body> {
    let mut refused = Response::new(Body::from(Bytes::from(status.message)));
    *refused.status_mut() = StatusCode::BAD_REQUEST;
    refused
}

/// Answers whatever is asked over a WebSocket with two pieces.
async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (mut head, _) = request.into_parts();
    let log = Response::new(Body::pieces(vec![Bytes::from("one\n"), Bytes::from("two\n")]));
    Ok(match asked_for(&mut head) {
        Ok(Some(socket)) => socket.carry(log).unwrap_or_else(refusal),
        Ok(None) => log,
        Err(status) => refusal(status),
    })
}

/// What a client that offers `protocols` is told of the protocol, and gets.
async fn talk(protocols: Option<&str>) -> Result<(Option<String>, Vec<Message>), Error> {
    let (ours, theirs) = tokio::io::duplex(1024);
    let serving = http1::Builder::new().serve_connection(TokioIo::new(theirs), service_fn(answer));
    tokio::spawn(serving.with_upgrades());
    let mut request = "ws://localhost/log".into_client_request()?;
    if let Some(protocols) = protocols {
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(protocols).expect("text"));
    }
    let (mut socket, response) = client_async(request, ours).await?;
    let chosen = response.headers().get(SEC_WEBSOCKET_PROTOCOL).map(|v| v.to_str().expect("text").to_owned());
    let mut messages = Vec::new();
    while let Some(message) = socket.next().await {
        messages.push(message?);
    }
    Ok((chosen, messages))
}

#[tokio::test]
async fn pieces_are_messages_in_the_clients_protocol() {
    let close = || Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }));
    let binary = || vec![Message::binary("one\n"), Message::binary("two\n"), close()];
    let (chosen, messages) = talk(Some("nobody.k8s.io, binary.k8s.io")).await.expect("a WebSocket");
    assert_eq!((chosen.as_deref(), messages), (Some("binary.k8s.io"), binary()));
    let (chosen, messages) = talk(None).await.expect("a WebSocket");
    assert_eq!((chosen, messages), (None, binary()));
    let (chosen, messages) = talk(Some("base64.binary.k8s.io")).await.expect("a WebSocket");
    let text = vec![Message::text("b25lCg=="), Message::text("dHdvCg=="), close()];
    assert_eq!((chosen.as_deref(), messages), (Some("base64.binary.k8s.io"), text));
}

#[tokio::test]
async fn a_client_that_speaks_nothing_known_is_refused() {
    let refused = talk(Some("v5.channel.k8s.io")).await;
    assert!(matches!(&refused, Err(Error::Http(r)) if r.status() == 400), "{refused:?}");
}

#[test]
fn other_upgrades_and_plain_requests_are_let_be() {
    let head = |upgrade: Option<&str>| -> request::Parts {
        let mut request = Request::builder();
        if let Some(protocol) = upgrade {
            request = request.header(CONNECTION, "Upgrade").header(UPGRADE, protocol);
        }
        request.body(()).expect("a request").into_parts().0
    };
    for upgrade in [None, Some("SPDY/3.1")] {
        assert!(matches!(asked_for(&mut head(upgrade)), Ok(None)), "{upgrade:?}");
    }
    // No key, no version.
    assert!(asked_for(&mut head(Some("websocket"))).is_err());
}

use http_body::Body as _;
use http_body_util::{Full, StreamBody};

use super::*;

fn chunks(chunks: Vec<usize>) -> RequestBody {
    let frames = chunks.into_iter().map(|n| Ok::<_, BoxError>(Frame::data(Bytes::from(vec![b'x'; n]))));
    StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
}

#[tokio::test]
async fn a_body_is_put_together() {
    let one = Full::new(Bytes::from_static(b"abc")).map_err(|e| match e {}).boxed_unsync();
    assert_eq!(read(one).await.unwrap(), "abc");
    assert_eq!(read(chunks(vec![1, 2, 3])).await.unwrap().len(), 6);
    assert_eq!(read(chunks(vec![])).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_body_is_bounded() {
    assert_eq!(read(chunks(vec![MAX_REQUEST])).await.unwrap().len(), MAX_REQUEST);
    assert_eq!(read(chunks(vec![MAX_REQUEST, 1])).await.unwrap_err().code(), 413);
    assert_eq!(read(chunks(vec![MAX_REQUEST / 2 + 1; 2])).await.unwrap_err().code(), 413);
}

#[tokio::test]
async fn pieces_say_how_long_they_are() {
    let mut body = Body::pieces(vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
    assert_eq!(body.size_hint().exact(), Some(3));
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
    assert_eq!(body.size_hint().exact(), Some(1));
    assert!(!body.is_end_stream());
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "c");
    assert!(body.is_end_stream());
    assert!(body.frame().await.is_none());
}

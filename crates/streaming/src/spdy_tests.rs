use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::codec::{Decoder, Encoder};

use super::{
    Connection,
    frame::{Codec, Error, Frame},
    headers::DICTIONARY,
};

fn codec() -> Codec {
    Codec::new().expect("the dictionary fits")
}

fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn the_dictionary_is_the_draft_s() {
    // The length and Adler-32 checksum that every SPDY/3 implementation has.
    assert_eq!(DICTIONARY.len(), 1423);
    let (a, b) = DICTIONARY.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (a + b) % 65521)
    });
    assert_eq!(b << 16 | a, 0xe3c6_a7c2);
}

#[test]
fn frames_round_trip_with_one_compression_context() {
    let (mut ours, mut theirs) = (codec(), codec());
    let mut wire = BytesMut::new();
    let frames = vec![
        Frame::Open { stream: 1, headers: headers(&[("streamtype", "error")]), fin: false },
        Frame::Open { stream: 3, headers: headers(&[("streamtype", "data"), ("port", "8080")]), fin: true },
        Frame::Reply { stream: 1, headers: headers(&[]), fin: false },
        Frame::Data { stream: 3, bytes: Bytes::from_static(b"hello"), fin: false },
        Frame::Data { stream: 3, bytes: Bytes::new(), fin: true },
        Frame::Reset { stream: 3, status: 3 },
        Frame::Ping { id: 7 },
        Frame::GoAway,
    ];
    for frame in &frames {
        ours.encode(frame.clone(), &mut wire).expect("encodes");
    }
    let mut decoded = Vec::new();
    while let Some(frame) = theirs.decode(&mut wire).expect("decodes") {
        decoded.push(frame);
    }
    assert_eq!(decoded, frames);
    assert!(wire.is_empty());
}

#[test]
fn long_headers_survive() {
    let (mut ours, mut theirs) = (codec(), codec());
    let long: String =
        (0..20_000u32).map(|i| char::from(b'a' + (i.wrapping_mul(2_654_435_761) >> 28) as u8)).collect();
    let frame = Frame::Open { stream: 1, headers: headers(&[("long", &long)]), fin: false };
    let mut wire = BytesMut::new();
    ours.encode(frame.clone(), &mut wire).expect("encodes");
    assert_eq!(theirs.decode(&mut wire).expect("decodes"), Some(frame));
}

#[test]
fn a_frame_that_is_too_long_or_of_another_version_is_refused() {
    let mut wire = BytesMut::from(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff][..]);
    assert!(matches!(codec().decode(&mut wire), Err(Error::TooLong(_))));
    let mut wire = BytesMut::from(&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1][..]);
    assert!(matches!(codec().decode(&mut wire), Err(Error::Version(2))));
}

proptest! {
    #[test]
    fn no_bytes_panic_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..512), kind in 1u8..9) {
        let mut codec = codec();
        let mut wire = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = codec.decode(&mut wire) {}
        let length = u8::try_from(bytes.len().min(200)).expect("small");
        let mut control = BytesMut::from(&[0x80, 3, 0, kind, 0, 0, 0, length][..]);
        control.extend_from_slice(&bytes);
        while let Ok(Some(_)) = codec.decode(&mut control) {}
    }
}

#[tokio::test]
async fn a_connection_replies_carries_both_ways_and_answers_pings() {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let mut connection = Connection::serve(server).expect("starts");
    let mut client = tokio_util::codec::Framed::new(client, codec());
    use futures::{SinkExt, StreamExt};
    for frame in [
        Frame::Open { stream: 1, headers: headers(&[("streamtype", "data")]), fin: false },
        Frame::Data { stream: 1, bytes: Bytes::from_static(b"ping"), fin: true },
        Frame::Ping { id: 9 },
        Frame::Data { stream: 99, bytes: Bytes::from_static(b"?"), fin: false },
    ] {
        client.send(frame).await.expect("sends");
    }
    let mut stream = connection.accept().await.expect("a stream");
    assert_eq!(stream.header("streamtype"), Some("data"));
    let mut text = String::new();
    stream.read.read_to_string(&mut text).await.expect("reads to the end");
    assert_eq!(text, "ping");
    stream.write.write_all(b"pong").await.expect("writes");
    stream.write.shutdown().await.expect("ends");
    drop(stream);
    let listening = async {
        let mut got = Vec::new();
        while let Some(Ok(frame)) = client.next().await {
            got.push(frame);
        }
        drop(client);
        got
    };
    let ((), got) = tokio::join!(connection.finish(), listening);
    assert!(got.contains(&Frame::Reply { stream: 1, headers: vec![], fin: false }));
    assert!(got.contains(&Frame::Ping { id: 9 }));
    assert!(got.contains(&Frame::Reset { stream: 99, status: 2 }));
    let data: Vec<_> = got.iter().filter(|f| matches!(f, Frame::Data { .. })).collect();
    assert_eq!(
        data,
        [
            &Frame::Data { stream: 1, bytes: Bytes::from_static(b"pong"), fin: false },
            &Frame::Data { stream: 1, bytes: Bytes::new(), fin: true },
        ]
    );
    assert_eq!(got.last(), Some(&Frame::GoAway));
}

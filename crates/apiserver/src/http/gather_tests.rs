use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Counts the writes that reach it.
struct Counted {
    to: tokio::io::DuplexStream,
    writes: Arc<Mutex<Vec<usize>>>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.to).poll_write(cx, buf))?;
        self.writes.lock().push(n);
        Poll::Ready(Ok(n))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to).poll_shutdown(cx)
    }
}

fn pair(room: usize) -> (Counted, tokio::io::DuplexStream, Arc<Mutex<Vec<usize>>>) {
    let (to, from) = tokio::io::duplex(room);
    let writes = Arc::default();
    (Counted { to, writes: Arc::clone(&writes) }, from, writes)
}

#[tokio::test]
async fn what_is_flushed_frame_by_frame_goes_out_as_one() {
    let (io, mut client, writes) = pair(1 << 20);
    let (mut stream, outlet) = gathering(io);
    let connection = async {
        for _ in 0..100 {
            stream.write_all(&[7; 100]).await?;
            stream.flush().await?;
        }
        // It waits for the client, which has everything by then.
        let mut answer = [0];
        stream.read_exact(&mut answer).await?;
        stream.write_all(&answer).await?;
        stream.shutdown().await
    };
    let asks = async {
        let mut got = vec![0; 10_000];
        client.read_exact(&mut got).await.unwrap();
        client.write_all(&[1]).await.unwrap();
        assert_eq!(client.read_to_end(&mut got).await.unwrap(), 1);
        got
    };
    let connection = std::pin::pin!(connection);
    let (done, got) = tokio::join!(outlet.run::<_, io::Error>(connection), asks);
    done.unwrap();
    assert_eq!((got.len(), got[9_999], got[10_000]), (10_001, 7, 1));
    assert_eq!(*writes.lock(), [10_000, 1]);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_writer_up() {
    let (io, mut client, _) = pair(1 << 10);
    let (mut stream, outlet) = gathering(io);
    let (sent, all) = (Arc::new(Mutex::new(0)), 10 * FULL);
    let connection = async {
        while *sent.lock() < all {
            stream.write_all(&[3; 1000]).await?;
            *sent.lock() += 1000;
        }
        stream.shutdown().await
    };
    let mut inner = std::pin::pin!(connection);
    let mut connection = std::pin::pin!(outlet.run::<_, io::Error>(inner.as_mut()));
    // As far as it comes without a reader.
    assert!(futures::poll!(connection.as_mut()).is_pending());
    assert!(*sent.lock() <= FULL + 2000);
    let mut got = Vec::new();
    let (done, read) = tokio::join!(connection, client.read_to_end(&mut got));
    done.unwrap();
    assert_eq!(read.unwrap(), *sent.lock());
    assert!(got.iter().all(|byte| *byte == 3));
}

#[tokio::test]
async fn a_client_that_is_gone_ends_the_connection() {
    let (io, client, _) = pair(1 << 10);
    drop(client);
    let (mut stream, outlet) = gathering(io);
    let connection = async {
        stream.write_all(b"to nobody").await?;
        std::future::pending::<io::Result<()>>().await
    };
    let connection = std::pin::pin!(connection);
    assert_eq!(outlet.run::<_, io::Error>(connection).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

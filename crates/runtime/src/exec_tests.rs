use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::relay;

/// Far longer than anything here takes; without it, what fails would hang.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_forwarding_ends_with_its_port_though_the_client_waits_for_that() {
    let ((mut client, near), (mut port, far)) = (duplex(64), duplex(64));
    let talk = async {
        client.write_all(b"ask").await.unwrap();
        let mut asked = [0; 3];
        port.read_exact(&mut asked).await.unwrap();
        port.write_all(b"answer").await.unwrap();
        drop(port);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!((&asked, &*heard), (b"ask", &b"answer"[..]));
        client
    };
    let both = tokio::time::timeout(LONG, async { tokio::join!(relay(near, far), talk) });
    let ((), client) = both.await.expect("the forwarding has ended");
    // It was open all the time.
    drop(client);
}

#[tokio::test]
async fn a_client_that_has_said_its_last_hears_the_port_to_its_end() {
    let ((mut client, near), (mut port, far)) = (duplex(64), duplex(64));
    let talk = async {
        client.write_all(b"ask").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = Vec::new();
        port.read_to_end(&mut asked).await.unwrap();
        port.write_all(b"late answer").await.unwrap();
        drop(port);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!((&*asked, &*heard), (&b"ask"[..], &b"late answer"[..]));
    };
    tokio::time::timeout(LONG, async { tokio::join!(relay(near, far), talk) }).await.expect("it has ended");
}

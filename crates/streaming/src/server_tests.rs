use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use super::*;

/// Echoes its input in capitals and tells its last terminal size on stderr; exits with the number of arguments.
struct Shout;

#[async_trait]
impl Backend for Shout {
    async fn run(&self, command: &Command, mut io: Io) -> Result<ExitStatus, BackendError> {
        if command.container == "gone" {
            return Err("container gone is not running".into());
        }
        let mut text = String::new();
        if let Some(stdin) = &mut io.stdin {
            stdin.read_to_string(&mut text).await?;
        }
        if let Some(stdout) = &mut io.stdout {
            stdout.write_all(text.to_uppercase().as_bytes()).await?;
            if command.tty {
                let size = io.resize.recv().await.ok_or("no size")?;
                stdout.write_all(format!("{}x{}", size.width, size.height).as_bytes()).await?;
            }
        }
        Ok(ExitStatus(command.command.as_ref().map_or(0, |c| i32::try_from(c.len()).unwrap_or(0))))
    }

    async fn forward(&self, _: &str, port: u16, client: &mut dyn Duplex) -> Result<(), BackendError> {
        if port == 81 {
            return Err("connection refused".into());
        }
        let mut text = [0; 4];
        client.read_exact(&mut text).await?;
        client.write_all(format!("{}:{port}", String::from_utf8_lossy(&text)).as_bytes()).await?;
        client.shutdown().await?;
        Ok(())
    }
}

fn command(words: &[&str], tty: bool) -> Command {
    Command {
        container: "c".to_owned(),
        command: Some(words.iter().map(|w| (*w).to_owned()).collect()),
        stdin: true,
        stdout: true,
        stderr: false,
        tty,
    }
}

/// Upgrades a fresh connection to the URL; returns the socket and the response's head.
async fn upgrade(url: &str, headers: &str) -> (TcpStream, String) {
    let rest = url.strip_prefix("http://").expect("a URL");
    let (host, path) = rest.split_once('/').expect("a path");
    let mut socket = TcpStream::connect(host).await.expect("connects");
    let request = format!("POST /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n{headers}\r\n");
    socket.write_all(request.as_bytes()).await.expect("sends");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.expect("a response"));
    }
    (socket, String::from_utf8(head).expect("text"))
}

async fn websocket(url: &str, protocol: &str) -> WebSocketStream<TcpStream> {
    let headers = format!(
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: unknown.example, {protocol}\r\n"
    );
    let (socket, head) = upgrade(url, &headers).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert!(head.contains(&format!("sec-websocket-protocol: {protocol}")), "{head}");
    WebSocketStream::from_raw_socket(socket, Role::Client, None).await
}

async fn messages(socket: &mut WebSocketStream<TcpStream>) -> HashMap<u8, Vec<u8>> {
    let mut channels: HashMap<u8, Vec<u8>> = HashMap::new();
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Binary(bytes) => channels.entry(bytes[0]).or_default().extend(&bytes[1..]),
            Message::Close(frame) => assert_eq!(frame.map(|f| u16::from(f.code)), Some(1000)),
            _ => {}
        }
    }
    channels
}

#[tokio::test]
async fn v5_closes_stdin_and_tells_the_exit_code() {
    let server = Server::start(Arc::new(Shout)).await.expect("starts");
    let mut socket =
        websocket(&server.command_url(command(&["a", "b", "c"], false)), "v5.channel.k8s.io").await;
    socket.send(Message::Binary(b"\0hello"[..].into())).await.expect("sends");
    socket.send(Message::Binary(vec![255, 0].into())).await.expect("sends");
    let channels = messages(&mut socket).await;
    assert_eq!(channels[&1], b"HELLO");
    let status: serde_json::Value = serde_json::from_slice(&channels[&3]).expect("JSON");
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0]["message"], "3");
}

#[tokio::test]
async fn a_client_that_goes_on_sending_still_hears_how_the_command_ended() {
    let server = Server::start(Arc::new(Shout)).await.expect("starts");
    let gone = || Command { container: "gone".to_owned(), ..command(&[], false) };
    let mut socket = websocket(&server.command_url(gone()), "v5.channel.k8s.io").await;
    // More than fits between the two, so that the last can only be sent once the others have been read.
    for _ in 0..512 {
        socket.send(Message::Binary(vec![0; 32 * 1024].into())).await.expect("nobody resets the connection");
    }
    assert!(String::from_utf8_lossy(&messages(&mut socket).await[&3]).contains("is not running"));
}

#[tokio::test]
async fn a_terminal_hears_of_its_size_and_success_is_told() {
    let server = Server::start(Arc::new(Shout)).await.expect("starts");
    let mut socket = websocket(&server.command_url(command(&[], true)), "v5.channel.k8s.io").await;
    socket.send(Message::Binary(b"\x04{\"Width\":80,\"Height\":24}\n"[..].into())).await.expect("sends");
    socket.send(Message::Binary(vec![255, 0].into())).await.expect("sends");
    let channels = messages(&mut socket).await;
    assert_eq!(channels[&1], b"80x24");
    let status: serde_json::Value = serde_json::from_slice(&channels[&3]).expect("JSON");
    assert_eq!(status["status"], "Success");
}

#[tokio::test]
async fn base64_channels_are_digits() {
    let server = Server::start(Arc::new(Shout)).await.expect("starts");
    let mut request = command(&[], false);
    request.stdin = false;
    request.container = "gone".to_owned();
    let mut socket = websocket(&server.command_url(request), "v4.base64.channel.k8s.io").await;
    let mut status = String::new();
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Text(text) = message
            && let Some(rest) = text.strip_prefix('3')
        {
            use base64::Engine;
            let bytes = base64::prelude::BASE64_STANDARD.decode(rest).expect("base64");
            status.push_str(&String::from_utf8(bytes).expect("text"));
        }
    }
    assert!(status.contains("container gone is not running"), "{status}");
}

#[tokio::test]
async fn a_url_serves_once_and_a_stranger_never() {
    let server = Server::start(Arc::new(Shout)).await.expect("starts");
    let url = server.command_url(command(&[], false));
    let spdy = "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n";
    let (_open, head) = upgrade(&url, spdy).await;
    assert!(
        head.starts_with("HTTP/1.1 101") && head.contains("x-stream-protocol-version: v4.channel.k8s.io"),
        "{head}"
    );
    let (_, head) = upgrade(&url, spdy).await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    let (_, head) = upgrade(&server.command_url(command(&[], false)), "").await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    let offers = "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v9.example\r\n";
    let (_, head) = upgrade(&server.command_url(command(&[], false)), offers).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
}

#[tokio::test]
async fn websocket_port_forward_pairs_channels_by_port() {
    let server = Server::start(Arc::new(Shout)).await.expect("starts");
    let mut socket =
        websocket(&server.port_forward_url("pod".to_owned(), vec![80, 81]), "v4.channel.k8s.io").await;
    socket.send(Message::Binary(b"\0abcd"[..].into())).await.expect("sends");
    let channels = messages(&mut socket).await;
    assert_eq!(channels[&0], [&80u16.to_le_bytes()[..], b"abcd:80"].concat());
    assert_eq!(channels[&1], 80u16.to_le_bytes());
    assert_eq!(channels[&2], 81u16.to_le_bytes());
    assert!(String::from_utf8_lossy(&channels[&3][2..]).contains("connection refused"));
}

#[tokio::test]
async fn the_data_of_a_refused_forward_ends_after_its_error() {
    use crate::spdy::{frame, headers::Headers};
    use tokio_util::codec::Framed;

    let server = Server::start(Arc::new(Shout)).await.expect("starts");
    let url = server.port_forward_url("pod".to_owned(), vec![]);
    let (socket, head) =
        upgrade(&url, "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: portforward.k8s.io\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let mut frames = Framed::new(socket, frame::Codec::new().expect("a codec"));
    for (stream, kind) in [(1, "error"), (3, "data")] {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers: Headers =
            vec![header("streamtype", kind), header("port", "81"), header("requestid", "0")];
        frames.send(frame::Frame::Open { stream, headers, fin: false }).await.expect("opens");
    }
    let (mut told, mut ended) = (String::new(), Vec::new());
    while ended.len() < 2 {
        match frames.next().await.expect("a frame").expect("a good frame") {
            frame::Frame::Data { stream, bytes, fin } => {
                told.push_str(&String::from_utf8_lossy(&bytes));
                ended.extend(fin.then_some(stream));
            }
            frame::Frame::Reply { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(told.contains("connection refused"), "{told}");
    assert_eq!(ended, [1, 3]);
}

#[tokio::test]
async fn an_attachment_ends_with_its_client() {
    struct Silent(mpsc::UnboundedSender<()>);
    struct Told(mpsc::UnboundedSender<()>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    #[async_trait]
    impl Backend for Silent {
        async fn run(&self, _: &Command, _: Io) -> Result<ExitStatus, BackendError> {
            let _told = Told(self.0.clone());
            std::future::pending().await
        }
        async fn forward(&self, _: &str, _: u16, _: &mut dyn Duplex) -> Result<(), BackendError> {
            Err("nothing listens".into())
        }
    }
    let (tell, mut told) = mpsc::unbounded_channel();
    let server = Server::start(Arc::new(Silent(tell))).await.expect("starts");
    let attach = || Command { command: None, ..command(&[], false) };
    let mut socket = websocket(&server.command_url(attach()), "v5.channel.k8s.io").await;
    assert!(matches!(socket.next().await, Some(Ok(Message::Binary(_)))), "the session has begun");
    drop(socket);
    told.recv().await.expect("the attachment is dropped");
}

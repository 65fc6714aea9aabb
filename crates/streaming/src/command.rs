//! One exec or attach session, from its streams to its status.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    task::JoinSet,
};
use tracing::debug;

use crate::{
    server::{Backend, BackendError, Command, ExitStatus, Io, TerminalSize},
    spdy,
    websocket::{Channels, Encoding},
};

/// How long a SPDY client may take to open the streams it asked for.
const STREAMS_WITHIN: Duration = Duration::from_secs(30);

/// How the end of the session is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatusForm {
    /// Before `v4`: a text, only of failures.
    Text,
    /// A `meta/v1.Status` object.
    Object,
}

pub(crate) struct Session {
    io: Io,
    error: Box<dyn AsyncWrite + Send + Unpin>,
    resizes: Option<Box<dyn AsyncRead + Send + Unpin>>,
    terminal: mpsc::Sender<TerminalSize>,
}

impl Session {
    fn new(error: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        let (terminal, resize) = mpsc::channel(8);
        Self {
            io: Io { stdin: None, stdout: None, stderr: None, resize },
            error: Box::new(error),
            resizes: None,
            terminal,
        }
    }

    /// Runs the command to its end, whoever listens; stays attached only while there is a client.
    async fn run_for(
        self,
        backend: &dyn Backend,
        command: &Command,
        form: StatusForm,
        gone: impl Future<Output = ()>,
    ) {
        let attached = command.command.is_none();
        tokio::select! {
            () = self.run(backend, command, form) => {}
            () = gone, if attached => debug!("the client has detached"),
        }
    }

    /// Runs the command to its end and tells the client how it ended.
    async fn run(self, backend: &dyn Backend, command: &Command, form: StatusForm) {
        let Self { io, mut error, resizes, terminal } = self;
        let mut resizing = JoinSet::new();
        if let Some(resizes) = resizes {
            resizing.spawn(follow_resizes(resizes, terminal));
        }
        let result = backend.run(command, io).await;
        drop(resizing);
        let status = match form {
            StatusForm::Object => status_object(&result).to_string(),
            StatusForm::Text => match result {
                Ok(ExitStatus(0)) => String::new(),
                Ok(ExitStatus(code)) => format!("command terminated with non-zero exit code {code}"),
                Err(failure) => failure.to_string(),
            },
        };
        // The client may be gone; then there is nobody to tell.
        if let Err(gone) = error.write_all(status.as_bytes()).await {
            debug!(%gone, "telling the exit status");
        }
        if let Err(gone) = error.shutdown().await {
            debug!(%gone, "ending the error stream");
        }
    }
}

fn status_object(result: &Result<ExitStatus, BackendError>) -> serde_json::Value {
    match result {
        Ok(ExitStatus(0)) => json!({"metadata": {}, "status": "Success"}),
        Ok(ExitStatus(code)) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(failure) => json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": failure.to_string(),
        }),
    }
}

/// Reads `{"Width":…,"Height":…}` objects, one after another, until the stream ends or makes no sense.
async fn follow_resizes(mut stream: Box<dyn AsyncRead + Send + Unpin>, terminal: mpsc::Sender<TerminalSize>) {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Size {
        width: u16,
        height: u16,
    }
    let mut text = Vec::new();
    let mut buffer = [0; 256];
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        text.extend_from_slice(&buffer[..n]);
        while let Some(end) = text.iter().position(|b| *b == b'}') {
            let object: Vec<u8> = text.drain(..=end).collect();
            let Ok(Size { width, height }) = serde_json::from_slice(&object) else { return };
            if terminal.send(TerminalSize { width, height }).await.is_err() {
                return;
            }
        }
        if text.len() > 1024 {
            return;
        }
    }
}

pub(crate) async fn over_spdy<T>(io: T, backend: &dyn Backend, command: &Command, form: StatusForm)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut connection = match spdy::Connection::serve(io) {
        Ok(connection) => connection,
        Err(error) => return debug!(%error, "starting SPDY"),
    };
    match tokio::time::timeout(STREAMS_WITHIN, collect(&mut connection, command)).await {
        Ok(Some(session)) => {
            let gone = async { while connection.accept().await.is_some() {} };
            session.run_for(backend, command, form, gone).await;
        }
        Ok(None) => debug!("the client left before it opened its streams"),
        Err(_) => debug!("the client did not open its streams in time"),
    }
    connection.finish().await;
}

async fn collect(connection: &mut spdy::Connection, command: &Command) -> Option<Session> {
    let wanted = 1 + [command.stdin, command.stdout, command.stderr && !command.tty, command.tty]
        .iter()
        .filter(|w| **w)
        .count();
    let mut error = None;
    let (mut stdin, mut stdout, mut stderr, mut resizes) = (None, None, None, None);
    for _ in 0..wanted {
        let stream = connection.accept().await?;
        match stream.header("streamtype") {
            Some("error") => error = Some(stream.write),
            Some("stdin") => stdin = Some(stream.read),
            Some("stdout") => stdout = Some(stream.write),
            Some("stderr") => stderr = Some(stream.write),
            Some("resize") => resizes = Some(stream.read),
            other => {
                debug!(kind = other, "an unknown stream");
                return None;
            }
        }
    }
    let mut session = Session::new(error?);
    session.io.stdin = stdin.map(|s| Box::new(s) as _);
    session.io.stdout = stdout.map(|s| Box::new(s) as _);
    session.io.stderr = stderr.map(|s| Box::new(s) as _);
    session.resizes = resizes.map(|s| Box::new(s) as _);
    Some(session)
}

pub(crate) async fn over_websocket<T>(
    io: T,
    encoding: Encoding,
    backend: &dyn Backend,
    command: &Command,
    form: StatusForm,
) where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut channels = Channels::new();
    let mut session = Session::new(channels.output(3));
    if command.stdin {
        session.io.stdin = Some(Box::new(channels.input(0)));
    }
    if command.stdout {
        session.io.stdout = Some(Box::new(channels.output(1)));
    }
    if command.stderr && !command.tty {
        session.io.stderr = Some(Box::new(channels.output(2)));
    }
    if command.tty {
        session.resizes = Some(Box::new(channels.input(4)));
    }
    let first = [(command.stdout, 1), (command.stderr, 2)].iter().find(|(on, _)| *on).map_or(3, |(_, c)| *c);
    let mut greeting = channels.output(first);
    let mut driver = channels.serve(io, encoding);
    // Clients take the first message, which carries nothing, as the sign that the session has begun.
    let greeted = greeting.write(&[]).await;
    drop(greeting);
    if greeted.is_ok() {
        let gone = async { while driver.join_next().await.is_some() {} };
        session.run_for(backend, command, form, gone).await;
    } else {
        drop(session);
    }
    while driver.join_next().await.is_some() {}
}

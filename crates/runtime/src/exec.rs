//! Commands in containers, attaching to them, and ports of their pods: what streams.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::pipe2;
use tiphys_streaming::server::{BackendError, Duplex};
use tiphys_streaming::{Backend, Command, ExitStatus, Io, Server, TerminalSize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::netns;
use crate::runtime::Runtime;
use crate::sandbox::blocking;
use crate::shim::client::Connection;
use crate::shim::packet::borrow;
use crate::shim::protocol::{Reply, Request};

/// How much output of a synchronous command is kept; what is beyond is read and dropped.
const MAX_OUTPUT: usize = 16 * 1024 * 1024;

/// How long output is waited for after a command's end. Only a process that it left behind can hold it open.
const DRAIN: Duration = Duration::from_secs(5);

/// How long a port of a pod may take to answer.
const DIAL: Duration = Duration::from_secs(10);

/// Runs the command and collects what it writes; a command that takes longer than `timeout` is killed.
pub(crate) async fn run_to_end(
    runtime: &Runtime,
    container: &Arc<Container>,
    command: &[String],
    timeout: Option<Duration>,
) -> Result<(i32, Vec<u8>, Vec<u8>)> {
    let (stdout, theirs_out) = reading_pipe()?;
    let (stderr, theirs_err) = reading_pipe()?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let nothing = open("/dev/null", flags, Mode::empty()).map_err(Error::call("open /dev/null"))?;
    let (connection, _) = runtime.exec(container, command, Some([nothing, theirs_out, theirs_err])).await?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let outputs = futures::future::join(collect(stdout, stopped.clone()), collect(stderr, stopped));
    let waiting = async {
        let code = match timeout {
            None => exit_of(&connection).await,
            Some(timeout) => match tokio::time::timeout(timeout, exit_of(&connection)).await {
                Ok(code) => code,
                Err(_) => {
                    connection.send(&Request::Kill, &[]).await?;
                    exit_of(&connection).await?;
                    let text = format!("command {command:?} timed out after {} s", timeout.as_secs());
                    Err(Error::Deadline(text))
                }
            },
        };
        let code = code?;
        tokio::spawn(async move {
            tokio::time::sleep(DRAIN).await;
            stop.send_replace(true);
        });
        Ok(code)
    };
    let (code, (stdout, stderr)) = futures::future::try_join(waiting, async { Ok(outputs.await) }).await?;
    Ok((code, stdout, stderr))
}

async fn collect(mut from: pipe::Receiver, mut stopped: tokio::sync::watch::Receiver<bool>) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            biased;
            read = from.read(&mut chunk) => read,
            // An error means that nobody can stop this any more, and that is no reason to.
            Ok(_) = stopped.wait_for(|stopped| *stopped) => return kept,
        };
        match read {
            Ok(0) | Err(_) => return kept,
            Ok(count) => {
                let room = MAX_OUTPUT.saturating_sub(kept.len());
                kept.extend_from_slice(&chunk[..count.min(room)]);
            }
        }
    }
}

async fn exit_of(connection: &Connection) -> Result<i32> {
    loop {
        match connection.receive().await? {
            Some((Reply::Exited { exit, .. }, _)) => return Ok(exit.code),
            Some(_) => {}
            None => return Err(Error::Shim("it went away before the command ended".into())),
        }
    }
}

fn reading_pipe() -> Result<(pipe::Receiver, OwnedFd)> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(Error::call("pipe"))?;
    Ok((pipe::Receiver::from_owned_fd(ours).map_err(Error::call("pipe"))?, theirs))
}

fn writing_pipe() -> Result<(pipe::Sender, OwnedFd)> {
    let (theirs, ours) = pipe2(OFlag::O_CLOEXEC).map_err(Error::call("pipe"))?;
    Ok((pipe::Sender::from_owned_fd(ours).map_err(Error::call("pipe"))?, theirs))
}

/// A terminal as two ends of a pipe: reading, writing, and the descriptor for its size.
fn terminal_ends(terminal: OwnedFd) -> Result<(pipe::Receiver, pipe::Sender, OwnedFd)> {
    let copy = || terminal.try_clone().map_err(Error::call("copy the terminal"));
    let flags = fcntl(&terminal, FcntlArg::F_GETFL).map_err(Error::call("read the terminal's flags"))?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(&terminal, FcntlArg::F_SETFL(flags)).map_err(Error::call("set the terminal's flags"))?;
    let reader =
        pipe::Receiver::from_owned_fd_unchecked(copy()?).map_err(Error::call("register the terminal"))?;
    let writer =
        pipe::Sender::from_owned_fd_unchecked(copy()?).map_err(Error::call("register the terminal"))?;
    Ok((reader, writer, terminal))
}

nix::ioctl_write_ptr_bad!(set_window_size, libc::TIOCSWINSZ, libc::winsize);

/// Gives the terminal each size that the client says, until it says no more.
async fn follow_size(terminal: OwnedFd, mut sizes: mpsc::Receiver<TerminalSize>) {
    while let Some(size) = sizes.recv().await {
        let size = libc::winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel reads the structure, which lives through the call.
        if unsafe { set_window_size(terminal.as_raw_fd(), &size) }.is_err() {
            // The terminal is gone with its process.
            return;
        }
    }
    // The client may have no more to say long before the terminal's process ends.
    std::future::pending::<()>().await;
}

/// Copies until the end; a terminal ends with an error when its process has.
async fn drain(mut from: impl AsyncRead + Unpin, to: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>>) {
    let Some(mut to) = to else { return };
    // Either side may go first, and then there is nothing more to do for this stream.
    let _ = copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

/// Copies what the client types, and closes after it.
async fn feed(from: Option<Box<dyn AsyncRead + Send + Unpin>>, to: Option<pipe::Sender>) {
    if let (Some(mut from), Some(mut to)) = (from, to) {
        // Either side may go first, and then nothing can be typed any more.
        let _ = copy(&mut from, &mut to).await;
    }
}

#[async_trait]
impl Backend for Runtime {
    async fn run(&self, command: &Command, io: Io) -> Result<ExitStatus, BackendError> {
        let container = self.inner.container(&command.container)?;
        let code = match &command.command {
            Some(arguments) if command.tty => run_on_terminal(self, &container, arguments, io).await?,
            Some(arguments) => run_on_pipes(self, &container, arguments, io).await?,
            None => attach(&container, command, io).await.map(|()| 0)?,
        };
        Ok(ExitStatus(code))
    }

    async fn forward(&self, sandbox: &str, port: u16, client: &mut dyn Duplex) -> Result<(), BackendError> {
        let sandbox = self.inner.sandbox(sandbox)?;
        if !sandbox.is_ready() {
            return Err(Error::Precondition(format!("sandbox {} isn't running", sandbox.id)).into());
        }
        let network = sandbox.network();
        let stream = blocking(move || match network {
            Some(network) => netns::inside(&network, || dial(port)),
            None => dial(port),
        })
        .await?;
        relay(client, tokio::net::TcpStream::from_std(stream)?).await;
        Ok(())
    }
}

/// How long a client may go on to talk to a port that has said its last.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Passes bytes on between a client and a port until both have ended. How they end isn't the other's concern.
///
/// A client may wait for the end of this before it ends its own half, as kubectl did until 1.22.
async fn relay(client: impl AsyncRead + AsyncWrite, port: impl AsyncRead + AsyncWrite) {
    let ((mut from_client, mut to_client), (mut from_port, mut to_port)) = (split(client), split(port));
    let up = async {
        let _ = copy(&mut from_client, &mut to_port).await;
        let _ = to_port.shutdown().await;
    };
    let down = async {
        let _ = copy(&mut from_port, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::pin!(up, down);
    tokio::select! {
        () = &mut up => down.await,
        // Whether it had any is its own affair.
        () = &mut down => drop(tokio::time::timeout(LAST_WORDS, up).await),
    }
}

/// Connects to a port on the loopback of the namespace that the thread is in.
fn dial(port: u16) -> Result<TcpStream> {
    let (four, six) =
        (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    let connect = |address: &SocketAddr| -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(address, DIAL)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    connect(&four)
        .or_else(|error| connect(&six).map_err(|_| error))
        .map_err(|error| Error::Network(format!("connecting to port {port} of the pod: {error}")))
}

async fn run_on_pipes(
    runtime: &Runtime,
    container: &Arc<Container>,
    command: &[String],
    io: Io,
) -> Result<i32> {
    let (stdout, theirs_out) = reading_pipe()?;
    let (stderr, theirs_err) = reading_pipe()?;
    let (input, theirs_in) = match &io.stdin {
        Some(_) => {
            let (input, theirs) = writing_pipe()?;
            (Some(input), theirs)
        }
        None => {
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            (None, open("/dev/null", flags, Mode::empty()).map_err(Error::call("open /dev/null"))?)
        }
    };
    let (connection, _) = runtime.exec(container, command, Some([theirs_in, theirs_out, theirs_err])).await?;
    let typing = tokio::spawn(feed(io.stdin, input));
    let output = futures::future::join(drain(stdout, io.stdout), drain(stderr, io.stderr));
    finish(&connection, output, typing).await
}

async fn run_on_terminal(
    runtime: &Runtime,
    container: &Arc<Container>,
    command: &[String],
    io: Io,
) -> Result<i32> {
    let (connection, terminal) = runtime.exec(container, command, None).await?;
    let terminal = terminal.ok_or_else(|| Error::Shim("the terminal didn't come".into()))?;
    let (reader, writer, terminal) = terminal_ends(terminal)?;
    let sizing = tokio::spawn(follow_size(terminal, io.resize));
    let typing = tokio::spawn(feed(io.stdin, Some(writer)));
    let code = finish(&connection, drain(reader, io.stdout), typing).await;
    sizing.abort();
    code
}

/// Waits for the command's end, then for its output's.
async fn finish<T>(
    connection: &Connection,
    output: impl Future<Output = T>,
    typing: tokio::task::JoinHandle<()>,
) -> Result<i32> {
    tokio::pin!(output);
    let (mut code, mut drained) = (None, false);
    while code.is_none() {
        tokio::select! {
            exit = exit_of(connection) => code = Some(exit?),
            _ = &mut output, if !drained => drained = true,
        }
    }
    if !drained {
        // What still holds the output open isn't the command that was asked for.
        let _ = tokio::time::timeout(DRAIN, output).await;
    }
    typing.abort();
    Ok(code.unwrap_or_default())
}

async fn attach(container: &Arc<Container>, command: &Command, io: Io) -> Result<()> {
    let mut fds = Vec::new();
    let input = match &io.stdin {
        Some(_) => {
            let (input, theirs) = writing_pipe()?;
            fds.push(theirs);
            Some(input)
        }
        None => None,
    };
    let mut outputs = Vec::new();
    let stderr = command.stderr && !container.config.tty;
    for (wanted, to) in [(command.stdout, io.stdout), (stderr, io.stderr)] {
        if wanted {
            let (ours, theirs) = reading_pipe()?;
            fds.push(theirs);
            outputs.push(drain(ours, to));
        }
    }
    let connection = Connection::open(&container.sandbox.dir)?;
    let request = Request::Attach {
        container: container.id.clone(),
        stdin: input.is_some(),
        stdout: command.stdout,
        stderr,
    };
    let (_, terminal) = connection.ask(&request, &borrow(&fds)).await?;
    // Only the shim may hold the other ends, or the output would never end.
    drop(fds);
    let mut beside = JoinSet::new();
    if let Some(terminal) = terminal.into_iter().next() {
        beside.spawn(follow_size(terminal, io.resize));
    }
    beside.spawn(feed(io.stdin, input));
    let heard = !outputs.is_empty();
    let output = futures::future::join_all(outputs);
    tokio::pin!(output);
    tokio::select! {
        ended = exit_of(&connection) => {
            ended?;
            // The shim has written all that there was; a client that doesn't read it isn't waited for.
            let _ = tokio::time::timeout(DRAIN, output).await;
        }
        _ = &mut output, if heard => {}
    }
    Ok(())
}

impl Runtime {
    /// The server that clients stream with, started when it is first needed.
    pub(crate) async fn streaming(&self) -> Result<&Server> {
        let backend = Arc::new(self.clone());
        self.inner
            .streaming
            .get_or_try_init(|| async {
                Server::start(backend).await.map_err(Error::call("start the streaming server"))
            })
            .await
    }
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;

//! Network namespaces that last as long as a test, and small servers and clients in them.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace. It lives while this, or a thread or link in it, does.
#[derive(Clone)]
pub(crate) struct Netns(Arc<File>);

impl Netns {
    pub(crate) fn new() -> Netns {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare");
            File::open("/proc/thread-self/ns/net").expect("own namespace")
        });
        Netns(Arc::new(made.join().expect("namespace thread")))
    }

    /// A path by which this process can open the namespace.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    /// Runs `work` on a thread inside the namespace.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let netns = self.clone();
        thread::spawn(move || {
            setns(&*netns.0, CloneFlags::CLONE_NEWNET).expect("setns");
            work()
        })
    }

    /// Answers every TCP connection and UDP datagram on the port with `name` and the client's address, for as long
    /// as the test process lives.
    pub(crate) fn serve(&self, port: u16, name: &'static str) {
        let (tcp, udp) = self.run(move || {
            let address = SocketAddr::from(([0, 0, 0, 0], port));
            (TcpListener::bind(address).expect("listen"), UdpSocket::bind(address).expect("bind"))
        });
        thread::spawn(move || {
            for connection in tcp.incoming() {
                let Ok(mut connection) = connection else { return };
                let Ok(peer) = connection.peer_addr() else { continue };
                // A client that went away is its own business.
                let _ = write!(connection, "{name} {}", peer.ip());
            }
        });
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer);
            }
        });
    }

    /// What answers a TCP connection to the address: the server's name and the client's address as it saw it.
    pub(crate) fn ask(&self, to: &str) -> Result<(String, String), std::io::Error> {
        let to: SocketAddr = to.parse().expect("socket address");
        self.run(move || {
            let mut connection = TcpStream::connect_timeout(&to, PATIENCE)?;
            connection.set_read_timeout(Some(PATIENCE))?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer)?;
            Ok(split(&answer))
        })
    }

    /// Whether a TCP connection to the address is neither answered nor refused. Looks for a moment only, which is long
    /// on a wire that lies within one kernel.
    pub(crate) fn hears_nothing_from(&self, to: &str) -> bool {
        let to: SocketAddr = to.parse().expect("socket address");
        let outcome = self.run(move || TcpStream::connect_timeout(&to, Duration::from_millis(300)));
        outcome.is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
    }

    /// The same by UDP, from a fresh source port.
    pub(crate) fn ask_udp(&self, to: &str) -> Result<(String, String), std::io::Error> {
        let to: SocketAddr = to.parse().expect("socket address");
        self.run(move || ask_from(&UdpSocket::bind("0.0.0.0:0")?, to))
    }
}

pub(crate) fn ask_from(socket: &UdpSocket, to: SocketAddr) -> Result<(String, String), std::io::Error> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    socket.send(b"?")?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    Ok(split(&String::from_utf8_lossy(&buffer[..length])))
}

/// Longer than any healthy answer takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

fn split(answer: &str) -> (String, String) {
    let (name, peer) = answer.split_once(' ').unwrap_or((answer, ""));
    (name.to_owned(), peer.to_owned())
}

/// Runs the test inside a fresh "host" namespace with only `lo`, on a runtime whose threads are all in it. Skips,
/// saying so, without the right to make namespaces.
pub(crate) fn on_a_host<F: Future<Output = ()>>(test: impl FnOnce(Netns) -> F + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: making network namespaces takes root");
        return;
    }
    let host = Netns::new();
    let inside = host.clone();
    host.run(move || {
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(test(inside));
    });
}

/// Runs iproute2 in this thread's namespace.
pub(crate) fn ip(arguments: &str) -> String {
    command("ip", arguments)
}

/// Runs nft in this thread's namespace.
pub(crate) fn nft(arguments: &str) -> String {
    command("nft", arguments)
}

fn command(program: &str, arguments: &str) -> String {
    let output = std::process::Command::new(program).args(arguments.split(' ')).output().expect(program);
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

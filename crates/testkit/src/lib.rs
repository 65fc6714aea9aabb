//! A cluster in a test: the real binary, real kubectl, small images.
//!
//! A [`Cluster`] has a data directory, ports and address ranges of its own and removes everything that it
//! made when it is dropped, also when the test has failed.

pub mod etcd;
mod home;
pub mod image;
mod pair;
pub mod reference;
mod terminal;
pub mod vm;

pub use home::Home;
pub use pair::Pair;
pub use terminal::Terminal;

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// What a scenario needs from outside, told by the environment as `cargo xtask test` does.
pub struct Programs {
    pub tiphys: PathBuf,
    pub kubectl: PathBuf,
}

impl Programs {
    /// # Errors
    /// Says how to run the scenarios when a variable is missing.
    pub fn find() -> Result<Self> {
        Ok(Self { tiphys: program("TIPHYS_BINARY")?, kubectl: program("KUBECTL")? })
    }
}

/// A program that a variable of the environment names.
///
/// # Errors
/// Says how to run the scenarios when the variable is missing.
pub fn program(variable: &str) -> Result<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).with_context(|| {
        format!("{variable} is not set; run the scenarios with `cargo xtask test --only scenario`")
    })
}

/// A cluster that a test runs.
pub struct Cluster {
    programs: Programs,
    home: Home,
    /// What kubectl is told besides.
    environment: Vec<(&'static str, &'static str)>,
    port: u16,
    kubelet_port: u16,
    /// The second byte of the address ranges.
    range: u8,
    node: &'static str,
    /// Where the API listens.
    address: Ipv4Addr,
    /// The network namespace that the server runs in, if it is not this thread's.
    namespace: Option<pair::Namespace>,
    /// What `tiphys` is told to do, and what more than a cluster needs.
    command: &'static str,
    arguments: Vec<String>,
    server: Option<Child>,
}

/// A port that nobody listens on right now.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).context("looking for a free port")?;
    Ok(listener.local_addr().context("looking for a free port")?.port())
}

impl Cluster {
    /// Starts a cluster and waits until its node is ready. `range` tells its addresses from those of other
    /// clusters: services have `10.<range>.0.0/17`, pods `10.<range>.128.0/17`.
    pub fn start(range: u8) -> Result<Self> {
        let mut cluster = Self::new(range)?;
        cluster.up()?;
        Ok(cluster)
    }

    /// Like [`Cluster::start`], with an API that pods reach, too: it listens on all addresses of the host.
    pub fn start_for_pods(range: u8) -> Result<Self> {
        let mut cluster = Self::new(range)?;
        cluster.address = Ipv4Addr::UNSPECIFIED;
        cluster.up()?;
        Ok(cluster)
    }

    /// A cluster with an empty data directory that nothing runs yet.
    pub fn new(range: u8) -> Result<Self> {
        let programs = Programs::find()?;
        let home = Home::new(&programs.tiphys)?;
        Self::of(programs, home, range)
    }

    /// Like [`Cluster::new`], with room for no more than `size` in the words of tmpfs' option.
    pub fn small(range: u8, size: &str) -> Result<Self> {
        let programs = Programs::find()?;
        let home = Home::small(&programs.tiphys, size)?;
        Self::of(programs, home, range)
    }

    fn of(programs: Programs, home: Home, range: u8) -> Result<Self> {
        let (port, kubelet_port, environment) = (free_port()?, free_port()?, Vec::new());
        let (address, command, arguments) = (Ipv4Addr::LOCALHOST, "up", Vec::new());
        let (node, namespace, server) = ("scenario", None, None);
        Ok(Self {
            programs,
            home,
            environment,
            port,
            kubelet_port,
            range,
            node,
            address,
            namespace,
            command,
            arguments,
            server,
        })
    }

    /// An API server alone, with the keys and the arguments of this cluster's; nothing runs it yet.
    pub fn beside(&self) -> Result<Self> {
        let mut other = self.again()?;
        other.command = "apiserver";
        Ok(other)
    }

    /// A server of its own with the keys and the arguments of this one; nothing runs it yet.
    fn again(&self) -> Result<Self> {
        let mut other = Self::new(self.range)?;
        let (from, to) = (self.data_dir().join("pki"), other.data_dir().join("pki"));
        std::fs::create_dir_all(&to)?;
        for file in std::fs::read_dir(from)? {
            let file = file?;
            std::fs::copy(file.path(), to.join(file.file_name()))?;
        }
        other.arguments.clone_from(&self.arguments);
        Ok(other)
    }

    /// Gives the server more arguments from its next start on.
    pub fn tell_server(&mut self, arguments: impl IntoIterator<Item = String>) {
        self.arguments.extend(arguments);
    }

    /// Where the API is served.
    pub fn url(&self) -> String {
        let host = if self.address.is_unspecified() { Ipv4Addr::LOCALHOST } else { self.address };
        format!("https://{host}:{}", self.port)
    }

    /// Sets variables for every kubectl from now on, in place of those set before.
    pub fn tell_kubectl(&mut self, environment: &[(&'static str, &'static str)]) {
        self.environment = environment.to_vec();
    }

    /// Takes another kubectl from now on.
    pub fn use_kubectl(&mut self, kubectl: PathBuf) {
        self.programs.kubectl = kubectl;
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("admin.kubeconfig")
    }

    /// The process ID of the server, while it runs.
    pub fn server(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// The directory that holds the data directory, and goes with the cluster.
    pub fn dir(&self) -> &Path {
        self.home.path()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.home.data_dir()
    }

    fn log(&self) -> PathBuf {
        self.dir().join("log")
    }

    /// Starts the server and returns at once.
    pub fn launch(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "the server runs already");
        let log = File::options().append(true).create(true).open(self.log())?;
        let range = self.range;
        let mut command = Command::new(&self.programs.tiphys);
        command
            .arg(self.command)
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--bind-address", &self.address.to_string()])
            .args(["--secure-port", &self.port.to_string(), "--kubelet-port", &self.kubelet_port.to_string()])
            .args([
                "--service-cidr",
                &format!("10.{range}.0.0/17"),
                "--pod-cidr",
                &format!("10.{range}.128.0/17"),
            ])
            .args(["--node-name", self.node])
            .args(&self.arguments)
            .env("TIPHYS_LOG", "info")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut start = || command.spawn().context("starting tiphys");
        self.server = Some(match &self.namespace {
            Some(namespace) => namespace.within(start)?,
            None => start()?,
        });
        Ok(())
    }

    /// Starts the server and waits until it serves.
    pub fn serve(&mut self) -> Result<()> {
        self.launch()?;
        self.eventually("the API is served", || {
            Ok(self.try_kubectl(["get", "--raw", "/readyz"])?.status.success())
        })
    }

    /// Starts the server and waits until the node is ready again.
    pub fn up(&mut self) -> Result<()> {
        self.launch()?;
        self.eventually("the node is ready", || {
            let ready = "-o=jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
            Ok(self.kubectl(["get", "node", self.node, ready])?.trim() == "True")
        })?;
        self.eventually("the default service account is there", || {
            Ok(self.try_kubectl(["get", "serviceaccount", "default"])?.status.success())
        })
    }

    /// Kills the server as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        let mut server = self.server.take().context("no server runs")?;
        server.kill().context("killing the server")?;
        server.wait().context("waiting for the server")?;
        Ok(())
    }

    /// Stops the server as Ctrl-C would; what it printed last is in the log.
    pub fn interrupt(&mut self) -> Result<()> {
        let mut server = self.server.take().context("no server runs")?;
        let pid = i32::try_from(server.id()).context("a process ID")?;
        kill(Pid::from_raw(pid), Signal::SIGINT).context("interrupting the server")?;
        ensure!(server.wait()?.success(), "the server did not end well; see {}", self.log().display());
        Ok(())
    }

    /// Runs `tiphys` with arguments, `--data-dir` after the first.
    pub fn tiphys<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String> {
        let mut arguments = arguments.into_iter();
        let command = arguments.next().context("a command")?;
        let mut tiphys = Command::new(&self.programs.tiphys);
        tiphys.arg(command).arg("--data-dir").arg(self.data_dir()).args(arguments);
        text(&mut tiphys)
    }

    fn kubectl_command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.programs.kubectl);
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(arguments)
            .env("HOME", self.dir())
            .envs(self.environment.iter().copied())
            .stdin(Stdio::null());
        command
    }

    /// Runs kubectl as the administrator; fails unless it succeeds.
    pub fn kubectl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String> {
        text(&mut self.kubectl_command(arguments))
    }

    /// Runs kubectl and returns whatever came of it.
    pub fn try_kubectl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Output> {
        self.kubectl_command(arguments).output().context("starting kubectl")
    }

    /// Runs kubectl, which must fail, and returns what it says on standard error.
    pub fn refused<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String> {
        let output = self.try_kubectl(arguments)?;
        ensure!(!output.status.success(), "kubectl should have failed: {output:?}");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Runs kubectl with `input` on its standard input.
    pub fn feed<S: AsRef<OsStr>>(
        &self,
        input: &[u8],
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Output> {
        let mut command = self.kubectl_command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("starting kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl's standard input")?;
        std::thread::scope(|scope| {
            // kubectl may end before it has read everything.
            scope.spawn(move || stdin.write_all(input));
            child.wait_with_output().context("waiting for kubectl")
        })
    }

    /// Starts kubectl at a terminal of 33 rows and 101 columns.
    pub fn terminal<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Terminal> {
        Terminal::start(&mut self.kubectl_command(arguments))
    }

    /// Forwards a free port of the host by `kubectl port-forward`, as long as the process is kept.
    pub fn forward(&self, target: &str, port: u16) -> Result<(Running, u16)> {
        let mut running = self.spawn_kubectl(["port-forward", target, &format!(":{port}")])?;
        let out = running.0.stdout.take().context("kubectl's standard output")?;
        let mut out = BufReader::new(out);
        let mut line = String::new();
        out.read_line(&mut line).context("reading what kubectl forwards")?;
        // It goes on telling of connections, and would stop if nobody read that.
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        let ours = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        Ok((running, ours.with_context(|| format!("kubectl forwards nothing: {line:?}"))?))
    }

    /// Starts kubectl in the background.
    pub fn spawn_kubectl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Running> {
        let mut command = self.kubectl_command(arguments);
        Ok(Running(command.stdout(Stdio::piped()).spawn().context("starting kubectl")?))
    }

    /// Imports a docker archive of the given image.
    pub fn import(&self, image: &image::Image) -> Result<()> {
        let path = self.dir().join("image.tar");
        image.write(File::create(&path)?)?;
        self.tiphys(["image".as_ref(), "import".as_ref(), path.as_os_str()]).map(drop)
    }

    /// Runs kubectl with nothing but a token.
    pub fn try_kubectl_with_token<S: AsRef<OsStr>>(
        &self,
        token: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Output> {
        let mut command = Command::new(&self.programs.kubectl);
        command
            .args(["--kubeconfig", "/dev/null", "--insecure-skip-tls-verify", "--token", token, "--server"])
            .arg(self.url())
            .args(arguments)
            .env("HOME", self.dir())
            .stdin(Stdio::null());
        command.output().context("starting kubectl")
    }

    /// Applies objects given as YAML.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        let applied = self.feed(yaml.as_bytes(), ["apply", "-f", "-"])?;
        ensure!(applied.status.success(), "{yaml}: {applied:?}");
        Ok(String::from_utf8_lossy(&applied.stdout).into_owned())
    }

    /// Waits until all pods that `selection` names are ready.
    pub fn ready(&self, selection: &[&str]) -> Result<()> {
        let wait = ["wait", "--for=condition=Ready", "--timeout=120s"];
        self.kubectl(wait.iter().chain(selection)).map(drop)
    }

    /// Waits for something that the cluster is to bring about. Errors on the way count as not yet.
    pub fn eventually(&self, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < Duration::from_secs(120) {
            match holds() {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => last = Some(error),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let tail: Vec<_> = log.lines().rev().take(20).collect();
        let seen = self.kubectl(["get", "pods,events", "-A", "-o", "wide"]).unwrap_or_default();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        bail!("{what}: not within two minutes (last error: {last:?})\nthe server's log ends:\n{tail}\n{seen}")
    }

    /// What is left of this cluster in the kernel: names of links, mounts, cgroups and processes.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let data = std::fs::canonicalize(self.data_dir()).unwrap_or_else(|_| self.data_dir());
        let data = data.to_string_lossy().into_owned();
        let mut left = Vec::new();
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        left.extend(mounts.lines().filter(|l| l.contains(&data)).map(|l| format!("mount {l}")));
        for entry in std::fs::read_dir("/proc")? {
            let path = entry?.path().join("cmdline");
            let command = std::fs::read(&path).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            if command.contains(&data) && command.contains("shim") {
                left.push(format!("process {command}"));
            }
        }
        Ok(left)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.home.clear();
        if let Some(mut server) = self.server.take() {
            // It has been stopped; one that could not be must not outlive the test.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// A process that ends when it is dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The repository's examples.
pub fn examples() -> PathBuf {
    // Where cargo runs this now: it may have been built in another checkout with the same target directory.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    here.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).join("../../examples")
}

/// A file of the repository's `examples/manifests`.
pub fn example(name: &str) -> Result<String> {
    let path = examples().join("manifests").join(name);
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// The body that a web server on loopback answers with.
pub fn page(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connecting")?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").context("asking for a page")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("reading a page")?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer: {answer:?}"))?;
    ensure!(head.contains(" 200 "), "{head}");
    Ok(body.to_owned())
}

/// What a command prints; its errors become ours.
pub fn text(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{out}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(out)
}

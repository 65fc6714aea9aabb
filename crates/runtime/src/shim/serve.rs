//! The shim's loop: signals, requests, streams, and nothing else.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, accept4, socketpair};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::create::{self, Order, Task};
use super::log::Log;
use super::memory;
use super::note;
use super::packet;
use super::protocol::{Exit, Launch, PodSpec, Reply, Report, Request};
use super::streams::{Event, Streams};
use crate::error::{Error, Result};
use crate::{cgroup, clock, files};

/// The exit code of a container whose process couldn't be started.
pub(crate) const START_FAILED: i32 = 128;

/// How many connections are served at once.
const MAX_CLIENTS: usize = 256;

pub(super) struct Shim {
    dir: PathBuf,
    signals: SignalFd,
    listener: OwnedFd,
    pause: i32,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
    containers: BTreeMap<String, Container>,
    creators: BTreeMap<i32, Creator>,
    /// Processes of execs, and the client that waits for each.
    execs: BTreeMap<i32, u64>,
    over: bool,
}

struct Client {
    socket: OwnedFd,
    role: Role,
}

/// What a connection is for, as its first packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    Asking,
    Exec(Option<i32>),
    Watching,
    Attached(String),
}

struct Container {
    launch: Launch,
    streams: Streams,
    state: State,
    /// Its end could not be written down, as the disk was full.
    unwritten: bool,
}

/// A container's way through the shim; it never goes back.
#[derive(Clone, Debug)]
enum State {
    /// A creator is at work on it.
    Starting,
    Running(i32),
    Ended(Exit),
}

struct Creator {
    report: OwnedFd,
    client: u64,
    /// The container that it makes; none for an exec.
    container: Option<String>,
}

/// Whom a ready descriptor belongs to.
enum Token {
    Signals,
    Listener,
    Client(u64),
    Stream(String, Event),
}

/// From here on the end of a child waits until it is asked for.
pub(super) fn block_signals() -> Result<SignalFd> {
    let mut wanted = SigSet::empty();
    wanted.add(Signal::SIGCHLD);
    wanted.thread_block().map_err(Error::call("block signals"))?;
    SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(Error::call("wait for signals"))
}

impl Shim {
    pub(super) fn new(dir: &Path, _spec: PodSpec, signals: SignalFd, listener: OwnedFd, pause: i32) -> Self {
        Self {
            dir: dir.to_owned(),
            signals,
            listener,
            pause,
            clients: BTreeMap::new(),
            next_client: 0,
            containers: BTreeMap::new(),
            creators: BTreeMap::new(),
            execs: BTreeMap::new(),
            over: false,
        }
    }

    pub(super) fn run(mut self) {
        while !self.over {
            for token in self.wait() {
                match token {
                    Token::Signals => {
                        // Only says that there is something to reap; how often it was said doesn't matter.
                        while let Ok(Some(_)) = self.signals.read_signal() {}
                        self.reap();
                    }
                    Token::Listener => self.accept(),
                    Token::Client(id) => self.hear(id),
                    Token::Stream(container, event) => {
                        if let Some(container) = self.containers.get_mut(&container) {
                            container.streams.handle(event);
                        }
                    }
                }
            }
            let now = Instant::now();
            for container in self.containers.values_mut() {
                container.streams.drop_unwilling(now);
            }
        }
    }

    fn wait(&self) -> Vec<Token> {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        let mut tokens = vec![Token::Signals, Token::Listener];
        for (id, client) in &self.clients {
            fds.push(PollFd::new(client.socket.as_fd(), PollFlags::POLLIN));
            tokens.push(Token::Client(*id));
        }
        let mut deadline: Option<Instant> = None;
        for (id, container) in &self.containers {
            container.streams.interests(|fd, writing, event| {
                let flags = if writing { PollFlags::POLLOUT } else { PollFlags::POLLIN };
                fds.push(PollFd::new(fd, flags));
                tokens.push(Token::Stream(id.clone(), event));
            });
            deadline = [deadline, container.streams.deadline()].into_iter().flatten().min();
        }
        let timeout = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now()).as_millis() + 1;
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Vec::new(),
            Err(error) => {
                note(format_args!("poll: {error}"));
                return Vec::new();
            }
        }
        let ready = fds.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        tokens.into_iter().zip(ready).filter_map(|(token, ready)| ready.then_some(token)).collect()
    }

    fn accept(&mut self) {
        use std::os::fd::{AsRawFd, FromRawFd};
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        while let Ok(fd) = accept4(self.listener.as_raw_fd(), flags) {
            // SAFETY: the kernel just made this descriptor for us alone.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            if self.clients.len() < MAX_CLIENTS {
                self.clients.insert(self.next_client, Client { socket, role: Role::Asking });
                self.next_client += 1;
            }
        }
    }

    fn hear(&mut self, id: u64) {
        let Some(client) = self.clients.get(&id) else { return };
        match packet::receive::<Request>(client.socket.as_fd()) {
            Ok(Some((request, fds))) => {
                if let Err(error) = self.obey(id, request, fds) {
                    self.tell(id, &Reply::Failed { message: error.to_string() }, None);
                }
            }
            Err(error) if packet::is_would_block(&error) => {}
            Ok(None) => self.drop_client(id),
            Err(error) => {
                self.tell(id, &Reply::Failed { message: error.to_string() }, None);
                self.drop_client(id);
            }
        }
    }

    fn drop_client(&mut self, id: u64) {
        if let Some(Client { role: Role::Attached(container), .. }) = self.clients.remove(&id)
            && let Some(container) = self.containers.get_mut(&container)
        {
            container.streams.detach(id);
        }
    }

    /// Sends a reply; a client that doesn't take it is dropped.
    fn tell(&mut self, id: u64, reply: &Reply, fd: Option<BorrowedFd<'_>>) {
        let Some(client) = self.clients.get(&id) else { return };
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        if packet::send(client.socket.as_fd(), reply, &fds).is_err() {
            self.drop_client(id);
        }
    }

    fn tell_watchers(&mut self, reply: &Reply, also: Option<&str>) {
        let interested: Vec<u64> = self
            .clients
            .iter()
            .filter(|(_, client)| match &client.role {
                Role::Watching => true,
                Role::Attached(container) => also == Some(container),
                _ => false,
            })
            .map(|(id, _)| *id)
            .collect();
        for id in interested {
            self.tell(id, reply, None);
        }
    }

    fn set_role(&mut self, id: u64, role: Role) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.role = role;
        }
    }

    fn container(&mut self, id: &str) -> Result<&mut Container> {
        self.containers.get_mut(id).ok_or_else(|| Error::no_container(id))
    }

    fn running(&mut self, id: &str) -> Result<(&mut Container, i32)> {
        let container = self.container(id)?;
        match container.state {
            State::Running(pid) => Ok((container, pid)),
            _ => Err(Error::Precondition(format!("container {id} isn't running"))),
        }
    }

    fn obey(&mut self, client: u64, request: Request, fds: Vec<OwnedFd>) -> Result<()> {
        match request {
            Request::Start { container } => return self.start(client, container),
            Request::Exec { container, process, tty } => {
                return self.exec(client, &container, process, tty, fds);
            }
            Request::Kill => {
                if let Some(Client { role: Role::Exec(Some(pid)), .. }) = self.clients.get(&client)
                    && self.execs.contains_key(pid)
                {
                    // It leads a session of its own. Either may have ended just now, which is what is wanted.
                    let _ = kill(Pid::from_raw(-*pid), Signal::SIGKILL);
                    let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
                }
                return Ok(());
            }
            Request::Attach { container, stdin, stdout, stderr } => {
                return self.attach(client, &container, [stdin, stdout, stderr], fds);
            }
            Request::Signal { container, signal, everyone } => {
                let (container, pid) = self.running(&container)?;
                let signal = Signal::try_from(signal).map_err(Error::call("signal"))?;
                if everyone {
                    cgroup::kill_all(&container.launch.cgroups);
                }
                match kill(Pid::from_raw(pid), signal) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(error) => return Err(Error::call("signal")(error)),
                }
            }
            Request::ReopenLog { container } => {
                let container = self.container(&container)?;
                container.streams.reopen_log().map_err(Error::call("reopen the log"))?;
            }
            Request::Watch => {
                self.set_role(client, Role::Watching);
                let mut running = Vec::new();
                let mut ended = Vec::new();
                for (id, container) in &self.containers {
                    match &container.state {
                        State::Running(pid) => running.push((id.clone(), *pid)),
                        State::Ended(exit) => ended.push((id.clone(), exit.clone())),
                        State::Starting => {}
                    }
                }
                for (container, exit) in ended {
                    self.tell(client, &Reply::Exited { container, exit }, None);
                }
                self.tell(client, &Reply::Watching { running }, None);
                return Ok(());
            }
            Request::Forget { container } => {
                if let Some(known) = self.containers.get(&container) {
                    if !matches!(known.state, State::Ended(_)) {
                        return Err(Error::Precondition(format!("container {container} hasn't ended")));
                    }
                    self.containers.remove(&container);
                }
            }
            Request::Shutdown => {
                for container in self.containers.values() {
                    cgroup::kill_all(&container.launch.cgroups);
                }
                // Nobody will remember them after this.
                for (id, container) in &self.containers {
                    if let (true, State::Ended(exit)) = (container.unwritten, &container.state) {
                        files::write_json(&self.bundle(id)?.join("exit.json"), exit)?;
                    }
                }
                // It may have ended before.
                let _ = kill(Pid::from_raw(self.pause), Signal::SIGKILL);
                files::remove_file(&self.dir.join("shim.sock"))?;
                self.over = true;
            }
        }
        self.tell(client, &Reply::Done, None);
        Ok(())
    }

    fn bundle(&self, container: &str) -> Result<PathBuf> {
        if container.is_empty() || !container.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Error::Invalid(format!("{container:?} is no container ID")));
        }
        Ok(self.dir.join("c").join(container))
    }

    fn start(&mut self, client: u64, id: String) -> Result<()> {
        // A server that was killed before it heard the answer asks again.
        match self.containers.get(&id).map(|container| container.state.clone()) {
            None => {}
            Some(State::Running(pid)) => {
                self.tell(client, &Reply::Started { pid }, None);
                return Ok(());
            }
            Some(State::Starting) => {
                let of_this = |creator: &&mut Creator| creator.container.as_ref() == Some(&id);
                if let Some(creator) = self.creators.values_mut().find(of_this) {
                    creator.client = client;
                }
                return Ok(());
            }
            Some(State::Ended(exit)) => return Err(Error::Start(exit.message)),
        }
        let bundle = self.bundle(&id)?;
        let launch: Launch = files::read_json(&bundle.join("launch.json"))?;
        let log = match Log::open(launch.log.clone()) {
            Ok(log) => log,
            Err(source) => {
                let path = launch.log.unwrap_or_default();
                return Err(Error::Io { step: "open log", path, source });
            }
        };
        let (streams, ends) = if launch.tty {
            (Streams::without_pipes(log), Vec::new())
        } else {
            Streams::with_pipes(&launch, log)?
        };
        let order = Order {
            bundle,
            task: Task::Container,
            tty: launch.tty,
            streams: ends,
            confinement: launch.confinement.clone(),
        };
        self.create(client, order, Some(id.clone()))?;
        self.containers.insert(id, Container { launch, streams, state: State::Starting, unwritten: false });
        Ok(())
    }

    fn exec(&mut self, client: u64, id: &str, process: String, tty: bool, fds: Vec<OwnedFd>) -> Result<()> {
        let bundle = self.bundle(id)?;
        let (container, _) = self.running(id)?;
        if process.contains('/') {
            return Err(Error::Invalid(format!("{process:?} isn't a file of the container")));
        }
        if !tty && fds.len() != 3 {
            return Err(Error::Invalid("an exec without a terminal needs three streams".into()));
        }
        let confinement = container.launch.confinement.clone();
        self.create(
            client,
            Order { bundle, task: Task::Exec(process), tty, streams: fds, confinement },
            None,
        )?;
        self.set_role(client, Role::Exec(None));
        Ok(())
    }

    fn create(&mut self, client: u64, order: Order, container: Option<String>) -> Result<()> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (report, tell) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(Error::call("make the creator's socket"))?;
        // SAFETY: the shim has one thread.
        match unsafe { fork() }.map_err(Error::call("fork a creator"))? {
            ForkResult::Child => create::run(order, &tell),
            ForkResult::Parent { child } => {
                self.creators.insert(child.as_raw(), Creator { report, client, container });
                Ok(())
            }
        }
    }

    fn attach(&mut self, client: u64, id: &str, wanted: [bool; 3], fds: Vec<OwnedFd>) -> Result<()> {
        if fds.len() != wanted.iter().filter(|wanted| **wanted).count() {
            return Err(Error::Invalid("attach needs one descriptor a stream".into()));
        }
        let (container, _) = self.running(id)?;
        let mut fds = fds.into_iter();
        let mut next = |wanted: bool| if wanted { fds.next() } else { None };
        let (stdin, stdout, stderr) = (next(wanted[0]), next(wanted[1]), next(wanted[2]));
        container.streams.attach(client, stdin, [stdout, stderr])?;
        let terminal = container.streams.terminal(&container.launch);
        let terminal =
            terminal.map(|fd| fd.try_clone_to_owned()).transpose().map_err(Error::call("copy terminal"))?;
        self.set_role(client, Role::Attached(id.to_owned()));
        self.tell(client, &Reply::Done, terminal.as_ref().map(AsFd::as_fd));
        Ok(())
    }

    fn reap(&mut self) {
        loop {
            let (pid, code) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => {
                    note(format_args!("waitpid: {error}"));
                    return;
                }
            };
            if let Some(creator) = self.creators.remove(&pid) {
                let for_container = creator.container.is_some();
                self.created(creator);
                if for_container {
                    memory::let_go_of_clean_pages(memory::mappings());
                }
            } else if let Some(client) = self.execs.remove(&pid) {
                let exit = Exit { code, finished_at: clock::now_nanos(), ..Exit::default() };
                self.tell(client, &Reply::Exited { container: String::new(), exit }, None);
                self.drop_client(client);
            } else if pid == self.pause {
                self.tell_watchers(&Reply::PauseEnded, None);
            } else {
                let ended = self.containers.iter().find_map(|(id, container)| match container.state {
                    State::Running(running) if running == pid => Some(id.clone()),
                    _ => None,
                });
                if let Some(id) = ended {
                    self.ended(&id, code);
                }
            }
        }
    }

    /// A creator has exited; what it reported before is in its socket.
    fn created(&mut self, creator: Creator) {
        let (report, terminal) = match packet::receive::<Report>(creator.report.as_fd()) {
            Ok(Some((report, fds))) => (report, fds.into_iter().next()),
            Ok(None) => (Report::Failed("the creator died".into()), None),
            Err(error) => (Report::Failed(format!("the creator died: {error}")), None),
        };
        let reply = match (&creator.container, report) {
            (None, Report::Started(pid)) => {
                self.execs.insert(pid, creator.client);
                self.set_role(creator.client, Role::Exec(Some(pid)));
                Reply::Started { pid }
            }
            (Some(id), Report::Started(pid)) => {
                if let Some(container) = self.containers.get_mut(id) {
                    container.state = State::Running(pid);
                    if let Some(terminal) = terminal
                        && let Err(error) = container.streams.set_terminal(terminal, &container.launch)
                    {
                        note(format_args!("{id}: {error}"));
                    }
                }
                self.tell(creator.client, &Reply::Started { pid }, None);
                self.tell_watchers(&Reply::Running { container: id.clone(), pid }, None);
                return;
            }
            (None, Report::Failed(message)) => Reply::Failed { message },
            (Some(id), Report::Failed(message)) => {
                let id = id.clone();
                let exit = Exit {
                    code: START_FAILED,
                    finished_at: clock::now_nanos(),
                    reason: "StartError".into(),
                    message: message.clone(),
                };
                self.settle(&id, exit);
                Reply::Failed { message }
            }
        };
        self.tell(creator.client, &reply, terminal.as_ref().map(AsFd::as_fd));
    }

    fn ended(&mut self, id: &str, code: i32) {
        let Some(container) = self.containers.get_mut(id) else { return };
        // Processes that share the pod's or the host's process IDs don't end with their first.
        cgroup::kill_all(&container.launch.cgroups);
        let reason = if cgroup::oom_kills(&container.launch.cgroups) > 0 {
            "OOMKilled"
        } else if code == 0 {
            "Completed"
        } else {
            "Error"
        };
        let exit =
            Exit { code, finished_at: clock::now_nanos(), reason: reason.into(), message: String::new() };
        self.settle(id, exit);
    }

    /// Writes the end down, first to disk, then to everyone who waits for it.
    fn settle(&mut self, id: &str, exit: Exit) {
        let Ok(bundle) = self.bundle(id) else { return };
        let Some(container) = self.containers.get_mut(id) else { return };
        container.streams.finish();
        container.state = State::Ended(exit.clone());
        if let Err(error) = files::write_json(&bundle.join("exit.json"), &exit) {
            container.unwritten = true;
            note(error);
        }
        self.tell_watchers(&Reply::Exited { container: id.to_owned(), exit }, Some(id));
    }
}

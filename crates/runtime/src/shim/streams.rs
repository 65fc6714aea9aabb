//! A container's standard streams: read once, written to the log and to whoever is attached.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchown, pipe2, read, write};

use super::log::{Log, Stream};
use super::protocol::Launch;
use crate::error::{Error, Result};

/// How much is read at once.
const CHUNK: usize = 16 * 1024;

/// How long an attached client may refuse to read before it is let go: until then the container waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Streams {
    log: Log,
    /// Standard output and error, or the terminal and nothing.
    output: [Option<OwnedFd>; 2],
    /// Standard input's writing end; with a terminal it is a copy of that.
    input: Option<OwnedFd>,
    /// Read from an attached client and not yet taken by the container.
    typed: Vec<u8>,
    close_input_after: bool,
    attached: Vec<Attached>,
}

struct Attached {
    client: u64,
    stdin: Option<OwnedFd>,
    output: [Option<OwnedFd>; 2],
    /// What the client hasn't taken yet, and since when.
    unsent: Option<(usize, Vec<u8>, Instant)>,
}

/// What [`Streams::interests`] asks to be told of, and [`Streams::handle`] then does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Output(usize),
    InputWritable,
    Typed(u64),
    Unsent(u64),
}

impl Streams {
    /// Makes the pipes for a container without a terminal, and says the three ends that are the container's.
    pub(super) fn with_pipes(launch: &Launch, log: Log) -> Result<(Self, Vec<OwnedFd>)> {
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(Error::call("pipe"));
        let (stdout, container_stdout) = pipe()?;
        let (stderr, container_stderr) = pipe()?;
        let (input, container_stdin) = if launch.stdin {
            let (container_stdin, input) = pipe()?;
            (Some(input), container_stdin)
        } else {
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            (None, open("/dev/null", flags, Mode::empty()).map_err(Error::call("open /dev/null"))?)
        };
        // A program that runs as someone else may open /dev/stdout anew.
        for fd in [&container_stdout, &container_stderr] {
            let (uid, gid) = (Uid::from_raw(launch.uid), Gid::from_raw(launch.gid));
            fchown(fd, Some(uid), Some(gid)).map_err(Error::call("give away a pipe"))?;
        }
        for fd in [Some(&stdout), Some(&stderr), input.as_ref()].into_iter().flatten() {
            set_nonblocking(fd)?;
        }
        let streams = Self {
            log,
            output: [Some(stdout), Some(stderr)],
            input,
            typed: Vec::new(),
            close_input_after: launch.stdin_once,
            attached: Vec::new(),
        };
        Ok((streams, vec![container_stdin, container_stdout, container_stderr]))
    }

    /// For a container with a terminal, which comes later.
    pub(super) fn without_pipes(log: Log) -> Self {
        let nothing = [None, None];
        Self {
            log,
            output: nothing,
            input: None,
            typed: Vec::new(),
            close_input_after: false,
            attached: Vec::new(),
        }
    }

    /// Takes the terminal that the container's process made.
    pub(super) fn set_terminal(&mut self, terminal: OwnedFd, launch: &Launch) -> Result<()> {
        set_nonblocking(&terminal)?;
        if launch.stdin {
            self.input = Some(terminal.try_clone().map_err(Error::call("copy the terminal"))?);
        }
        self.output = [Some(terminal), None];
        Ok(())
    }

    /// The terminal, for resizing it.
    pub(super) fn terminal(&self, launch: &Launch) -> Option<BorrowedFd<'_>> {
        if launch.tty { self.output[0].as_ref().map(AsFd::as_fd) } else { None }
    }

    pub(super) fn reopen_log(&mut self) -> io::Result<()> {
        self.log.reopen()
    }

    pub(super) fn attach(
        &mut self,
        client: u64,
        stdin: Option<OwnedFd>,
        output: [Option<OwnedFd>; 2],
    ) -> Result<()> {
        for fd in stdin.iter().chain(output.iter().flatten()) {
            set_nonblocking(fd)?;
        }
        self.attached.push(Attached { client, stdin, output, unsent: None });
        Ok(())
    }

    pub(super) fn detach(&mut self, client: u64) {
        self.attached.retain(|attached| attached.client != client);
    }

    /// Says what to wait for: descriptors, whether for writing, and what that will mean.
    pub(super) fn interests<'a>(&'a self, mut wait: impl FnMut(BorrowedFd<'a>, bool, Event)) {
        // A client that doesn't read holds the container back, as a terminal would, but not for long.
        if self.attached.iter().all(|attached| attached.unsent.is_none()) {
            for (which, output) in self.output.iter().enumerate() {
                if let Some(output) = output {
                    wait(output.as_fd(), false, Event::Output(which));
                }
            }
        }
        for attached in &self.attached {
            if let Some((which, _, _)) = &attached.unsent
                && let Some(output) = &attached.output[*which]
            {
                wait(output.as_fd(), true, Event::Unsent(attached.client));
            }
            if let Some(stdin) = &attached.stdin
                && self.typed.is_empty()
            {
                wait(stdin.as_fd(), false, Event::Typed(attached.client));
            }
        }
        if let Some(input) = &self.input
            && !self.typed.is_empty()
        {
            wait(input.as_fd(), true, Event::InputWritable);
        }
    }

    /// When the first unwilling client is let go.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let since =
            self.attached.iter().filter_map(|attached| attached.unsent.as_ref().map(|(_, _, since)| *since));
        since.min().map(|since| since + PATIENCE)
    }

    pub(super) fn drop_unwilling(&mut self, now: Instant) {
        self.attached.retain(|attached| {
            attached.unsent.as_ref().is_none_or(|(_, _, since)| now.duration_since(*since) < PATIENCE)
        });
    }

    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Output(which) => {
                self.pump(which);
            }
            Event::InputWritable => self.type_on(),
            Event::Typed(client) => self.take_typed(client),
            Event::Unsent(client) => {
                for attached in self.attached.iter_mut().filter(|attached| attached.client == client) {
                    if let Some((which, rest, _)) = attached.unsent.take() {
                        attached.send(which, &rest);
                    }
                }
            }
        }
    }

    /// Reads all that is there, ends unfinished lines, and closes everything. The container has ended.
    pub(super) fn finish(&mut self) {
        for which in 0..self.output.len() {
            while self.pump(which) {}
        }
        self.log.finish();
        self.output = [None, None];
        self.input = None;
        self.attached.clear();
    }

    /// Moves one chunk of output on; whether there may be more.
    fn pump(&mut self, which: usize) -> bool {
        let Some(output) = &self.output[which] else { return false };
        let mut chunk = [0; CHUNK];
        match read(output, &mut chunk) {
            Err(Errno::EINTR) => true,
            Err(Errno::EAGAIN) => false,
            // A terminal answers EIO when its last user is gone.
            Ok(0) | Err(_) => {
                self.output[which] = None;
                for attached in &mut self.attached {
                    attached.output[which] = None;
                }
                false
            }
            Ok(count) => {
                let stream = if which == 0 { Stream::Stdout } else { Stream::Stderr };
                self.log.write(stream, &chunk[..count]);
                for attached in &mut self.attached {
                    attached.send(which, &chunk[..count]);
                }
                true
            }
        }
    }

    fn take_typed(&mut self, client: u64) {
        let Some(attached) = self.attached.iter_mut().find(|attached| attached.client == client) else {
            return;
        };
        let Some(stdin) = &attached.stdin else { return };
        let mut chunk = [0; 4096];
        match read(stdin, &mut chunk) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Ok(0) | Err(_) => {
                attached.stdin = None;
                if self.close_input_after {
                    self.input = None;
                }
            }
            Ok(count) if self.input.is_some() => {
                self.typed.extend_from_slice(&chunk[..count]);
                self.type_on();
            }
            // The container takes no input; what is typed goes nowhere.
            Ok(_) => {}
        }
    }

    fn type_on(&mut self) {
        let Some(input) = &self.input else {
            self.typed.clear();
            return;
        };
        match write(input, &self.typed) {
            Ok(count) => {
                self.typed.drain(..count);
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => {
                self.input = None;
                self.typed.clear();
            }
        }
    }
}

impl Attached {
    fn send(&mut self, which: usize, chunk: &[u8]) {
        let Some(output) = &self.output[which] else { return };
        let mut rest = chunk;
        while !rest.is_empty() {
            match write(output, rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    // At most one chunk can be waiting for each stream, since nothing is read meanwhile.
                    match &mut self.unsent {
                        Some((stream, unsent, _)) if *stream == which => unsent.extend_from_slice(rest),
                        _ => self.unsent = Some((which, rest.to_vec(), Instant::now())),
                    }
                    return;
                }
                Err(_) => {
                    self.output[which] = None;
                    return;
                }
            }
        }
    }
}

fn set_nonblocking(fd: &OwnedFd) -> Result<()> {
    let flags = fcntl(fd, FcntlArg::F_GETFL).map_err(Error::call("read a pipe's flags"))?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(fd, FcntlArg::F_SETFL(flags)).map_err(Error::call("set a pipe's flags"))?;
    debug_assert!(fd.as_raw_fd() >= 0);
    Ok(())
}

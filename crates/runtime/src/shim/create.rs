//! The short-lived process that makes a container, or a process in one, with libcontainer.
//!
//! libcontainer changes its process' working directory and clones without telling the C library, so it runs in a
//! fork of the single-threaded shim and nowhere else. The first process of a container is a child of the creator;
//! when the creator exits, the shim inherits it. The shim thus always learns of the creator's end first.

use std::ffi::CString;
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use libcontainer::capabilities::drop_privileges;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::{SyscallType, create_syscall};
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::SigSet;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{execvp, pipe2};
use oci_spec::runtime::Spec;

use super::packet;
use super::protocol::{Confinement, Report};
use crate::error::{Error, Result};
use crate::{files, sys};

/// The name under which libcontainer keeps a container's state, inside the container's own directory.
const STATE: &str = "state";

/// What to make.
pub(super) enum Task {
    /// The container of the bundle.
    Container,
    /// A process in it, described by this file of the bundle.
    Exec(String),
}

/// What it is made from.
pub(super) struct Order {
    pub(super) bundle: PathBuf,
    pub(super) task: Task,
    pub(super) tty: bool,
    /// Input, output and error; none with a terminal.
    pub(super) streams: Vec<OwnedFd>,
    pub(super) confinement: Confinement,
}

/// Does the order, reports to the shim, and ends this process.
pub(super) fn run(order: Order, report_to: &OwnedFd) -> ! {
    // The container must start as any program does: no signal blocked or ignored, new files readable.
    let unblocked = SigSet::empty().thread_set_mask().map_err(Error::call("unblock signals"));
    let made = unblocked.and_then(|()| {
        sys::reset_signals();
        umask(Mode::from_bits_truncate(0o022));
        make(order)
    });
    let (report, terminal) = match made {
        Ok((pid, terminal)) => (Report::Started(pid), terminal),
        Err(error) => (Report::Failed(shorten(&format!("{PREFIX}{error}"))), None),
    };
    let fds: Vec<BorrowedFd<'_>> = terminal.iter().map(AsFd::as_fd).collect();
    let failed = packet::send(report_to.as_fd(), &report, &fds).is_err();
    std::process::exit(i32::from(failed))
}

fn shorten(text: &str) -> String {
    text.chars().take(4096).collect()
}

fn make(order: Order) -> Result<(i32, Option<OwnedFd>)> {
    let fail = |error: &dyn std::error::Error| Error::Start(explain(error));
    let (problems, tell) = pipe2(OFlag::O_CLOEXEC).map_err(Error::call("pipe"))?;
    let executor = Last { confinement: order.confinement, problems: tell.as_raw_fd() };
    let mut builder = ContainerBuilder::new(STATE.to_owned(), SyscallType::default())
        .with_root_path(&order.bundle)
        .map_err(|error| fail(&error))?
        .with_executor(executor);
    let mut streams = order.streams.into_iter();
    if let (Some(stdin), Some(stdout), Some(stderr)) = (streams.next(), streams.next(), streams.next()) {
        builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
    }
    let console = if order.tty { Some(Console::listen(&order.bundle)?) } else { None };
    if let Some(console) = &console {
        builder = builder.with_console_socket(Some(&console.path));
    }
    let pid = match &order.task {
        Task::Container => {
            files::remove_dir(&order.bundle.join(STATE))?;
            let mut container = builder
                .as_init(&order.bundle)
                .with_systemd(false)
                .with_detach(true)
                .build()
                .map_err(|error| fail(&error))?;
            container.start().map_err(|error| fail(&error))?;
            container
                .pid()
                .map(|pid| pid.as_raw())
                .ok_or_else(|| Error::Start("container has no process".into()))?
        }
        Task::Exec(process) => builder
            .as_tenant()
            .with_detach(true)
            .with_process(Some(order.bundle.join(process)))
            .build()
            .map_err(|error| fail(&error))?
            .as_raw(),
    };
    // The other ends close when the new program runs, or when its process has said why it doesn't.
    drop(tell);
    let mut problem = String::new();
    File::from(problems).read_to_string(&mut problem).map_err(Error::call("wait for the program"))?;
    if !problem.is_empty() {
        return Err(Error::Start(problem));
    }
    let terminal = console.as_ref().map(Console::receive).transpose()?;
    Ok((pid, terminal))
}

/// The innermost cause: libcontainer's outer errors only say which of its processes failed.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    // What the container's own process reported comes last, behind the names of the channels that carried it.
    match text.rfind(PREFIX) {
        Some(start) => text[start + PREFIX.len()..].to_owned(),
        None => text,
    }
}

/// Marks the part of an error that is for the user.
const PREFIX: &str = "unable to start container process: ";

/// Where the container's process sends its terminal to.
struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    fn listen(bundle: &Path) -> Result<Self> {
        let path = bundle.join(format!("console-{}.sock", std::process::id()));
        files::remove_file(&path)?;
        let dir = File::open(bundle).map_err(Error::io("open", bundle))?;
        let name = path.file_name().unwrap_or_default();
        let short = Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
        let listener = UnixListener::bind(short).map_err(Error::io("listen on", &path))?;
        Ok(Self { listener, path })
    }

    fn receive(&self) -> Result<OwnedFd> {
        let (socket, _) = self.listener.accept().map_err(Error::io("accept on", &self.path))?;
        let mut name = [0; 64];
        let mut parts = [IoSliceMut::new(&mut name)];
        let mut control = nix::cmsg_space!([RawFd; 1]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)
            .map_err(Error::call("receive the terminal"))?;
        for part in message.cmsgs().map_err(Error::call("receive the terminal"))? {
            if let ControlMessageOwned::ScmRights(fds) = part
                && let Some(fd) = fds.first()
            {
                // SAFETY: the kernel just made this descriptor for us alone.
                return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
            }
        }
        Err(Error::Start("the container's terminal didn't come".into()))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // What is left of a failed removal goes with the container's directory.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The last steps before the container's program, the same for its first process and for every exec: system call
/// filter, capabilities, `exec`. libcontainer would leave an exec without the filter.
#[derive(Clone)]
struct Last {
    confinement: Confinement,
    /// Where to say that the program couldn't be run; closes by itself when it could.
    problems: RawFd,
}

impl Last {
    fn confine_and_run(&self, spec: &Spec) -> Result<(), String> {
        let args = spec.process().as_ref().and_then(|process| process.args().as_ref());
        let args = args.filter(|args| !args.is_empty()).ok_or("no command is given")?;
        let args: Vec<CString> = args
            .iter()
            .map(|arg| {
                sys::c_string(arg.as_bytes()).map_err(|_| format!("argument {arg:?} has a zero byte in it"))
            })
            .collect::<Result<_, _>>()?;
        if let Some(filter) = &self.confinement.seccomp {
            libcontainer::seccomp::initialize_seccomp(filter).map_err(|error| format!("seccomp: {error}"))?;
        }
        if let Some(capabilities) = &self.confinement.capabilities {
            drop_privileges(capabilities, create_syscall().as_ref())
                .map_err(|error| format!("drop capabilities: {error}"))?;
        }
        let Err(error) = execvp(&args[0], &args);
        Err(format!("exec: {:?}: {}", args[0].to_string_lossy(), error.desc().to_lowercase()))
    }
}

impl Executor for Last {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let Err(problem) = self.confine_and_run(spec) else { return Ok(()) };
        // SAFETY: the descriptor was inherited from the creator and nothing else in this process owns it.
        let mut problems = File::from(unsafe { OwnedFd::from_raw_fd(self.problems) });
        // Nobody else could be told.
        let _ = problems.write_all(problem.as_bytes());
        Err(ExecutorError::Other(problem))
    }

    /// Finds out in time, and in the words that users know, that there is no such program.
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let process = spec.process().as_ref();
        let name = process.and_then(|process| process.args().as_ref()).and_then(|args| args.first());
        let Some(name) = name else {
            return Err(ExecutorValidationError::ArgValidationError(format!("{PREFIX}no command is given")));
        };
        let env = process.and_then(|process| process.env().as_deref()).unwrap_or_default();
        let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
        let refused = |why: &str| {
            Err(ExecutorValidationError::ArgValidationError(format!("{PREFIX}exec: {name:?}: {why}")))
        };
        if name.contains('/') {
            return match std::fs::metadata(name) {
                Ok(metadata) if metadata.is_dir() => refused("is a directory"),
                Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => refused("permission denied"),
                Ok(_) => Ok(()),
                Err(error) => {
                    let why = Errno::from_raw(error.raw_os_error().unwrap_or(0)).desc().to_lowercase();
                    refused(&format!("stat {name}: {why}"))
                }
            };
        }
        let runnable = |dir: &str| {
            let candidate = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
            std::fs::metadata(candidate)
                .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
        };
        if path.split(':').any(runnable) { Ok(()) } else { refused("executable file not found in $PATH") }
    }
}

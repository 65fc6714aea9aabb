//! The process that outlives the server: one a pod.
//!
//! ```text
//! server ── spawns ──▶ launcher ── forks ──▶ shim ── forks ──▶ pause      (holds the pod's namespaces)
//!                      (exits when             ├── forks ──▶ creator ──▶ container's first process
//!                       the shim is ready)     └── forks ──▶ creator ──▶ process of an exec
//! ```
//!
//! The shim has one thread, stays in the host's namespaces and is the parent of everything in the pod: creators are
//! its children and it is their children's subreaper. It owns the containers' standard streams and log files,
//! writes each exit to disk before it tells anyone, and answers requests on a socket in the pod's directory.
//!
//! What it needs lies in that directory and is written by the server before it is asked for:
//!
//! ```text
//! shim.json              [`protocol::PodSpec`], read once
//! shim.sock              where it listens
//! shim.log               what it couldn't tell anyone
//! c/<container>/config.json   the OCI runtime specification
//! c/<container>/launch.json   [`protocol::Launch`]
//! c/<container>/exit.json     [`protocol::Exit`], written by the shim
//! ```

pub(crate) mod client;
mod create;
mod log;
mod memory;
pub(crate) mod packet;
mod pause;
pub(crate) mod protocol;
mod serve;
pub(crate) use serve::START_FAILED;
mod streams;

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid};

use crate::error::{Error, Result};
use crate::files;
use protocol::{PodSpec, Ready};

/// The shim's entry: what `tiphys shim <directory of the pod>` runs. It must be called before any thread is started.
///
/// The process that calls it returns when the shim is ready (its standard output then says so) or has failed
/// (standard error says why); the shim itself goes on as its child.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Some(dir) = args.into_iter().next().map(PathBuf::from) else {
        eprintln!("usage: shim DIRECTORY");
        return ExitCode::from(2);
    };
    match launch(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Forks the shim, waits until it is ready, and says so on standard output.
fn launch(dir: &Path) -> Result<()> {
    let spec: PodSpec = files::read_json(&dir.join("shim.json"))?;
    if spec.version != protocol::VERSION {
        return Err(Error::Shim(format!(
            "pod wants protocol {}, this is {}",
            spec.version,
            protocol::VERSION
        )));
    }
    if let Some(cgroup) = &spec.cgroup_procs {
        fs::write(cgroup, "0").map_err(Error::io("enter cgroup", cgroup))?;
    }
    let (ready, tell) = pipe2(OFlag::O_CLOEXEC).map_err(Error::call("pipe"))?;
    // SAFETY: this process has one thread; its caller promised so.
    match unsafe { fork() }.map_err(Error::call("fork the shim"))? {
        ForkResult::Parent { .. } => {
            drop(tell);
            let mut answer = String::new();
            fs::File::from(ready).read_to_string(&mut answer).map_err(Error::call("wait for the shim"))?;
            match answer.strip_prefix('!') {
                None if !answer.is_empty() => {
                    std::io::stdout().write_all(answer.as_bytes()).map_err(Error::call("report the shim"))
                }
                Some(problem) => Err(Error::Shim(problem.to_owned())),
                None => Err(Error::Shim("it died while starting".into())),
            }
        }
        ForkResult::Child => {
            drop(ready);
            let mut tell = fs::File::from(tell);
            let failed = match become_shim(dir, spec) {
                Ok((shim, answer)) => match tell.write_all(answer.as_bytes()) {
                    Ok(()) => {
                        drop(tell);
                        shim.run();
                        false
                    }
                    Err(_) => true,
                },
                Err(error) => {
                    // The launcher that would read it may be gone; there is nobody else to tell.
                    let _ = write!(tell, "!{error}");
                    true
                }
            };
            std::process::exit(i32::from(failed))
        }
    }
}

fn become_shim(dir: &Path, spec: PodSpec) -> Result<(serve::Shim, String)> {
    setsid().map_err(Error::call("start a session"))?;
    std::env::set_current_dir("/").map_err(Error::call("leave the working directory"))?;
    nix::sys::prctl::set_child_subreaper(true).map_err(Error::call("become subreaper"))?;
    nix::sys::prctl::set_name(c"tiphys-shim").map_err(Error::call("set the name"))?;
    take_standard_streams(dir)?;
    // Before the pause process, so that its end can't be missed.
    let signals = serve::block_signals()?;
    let listener = listen_in(dir)?;
    let pause = pause::start(dir, &spec)?;
    let answer =
        serde_json::to_string(&Ready { pid: std::process::id(), pause }).map_err(Error::parse("answer"))?;
    memory::let_go_of_clean_pages(memory::mappings());
    Ok((serve::Shim::new(dir, spec, signals, listener, pause), answer))
}

/// Says in the pod's own file what can be told to nobody. A full disk takes it not, and must not end the shim as it
/// would with `eprintln!`.
fn note(problem: impl std::fmt::Display) {
    // There is no other place left to say it.
    let _ = writeln!(std::io::stderr(), "{problem}");
}

/// Standard error goes to the pod's own file: the server's may close at any time, and mustn't be kept open.
fn take_standard_streams(dir: &Path) -> Result<()> {
    let nowhere =
        fs::File::options().read(true).write(true).open("/dev/null").map_err(Error::call("open null"))?;
    let path = dir.join("shim.log");
    let log = fs::File::options().append(true).create(true).open(&path).map_err(Error::io("open", &path))?;
    dup2_stdin(nowhere.as_fd()).map_err(Error::call("dup2"))?;
    dup2_stdout(nowhere.as_fd()).map_err(Error::call("dup2"))?;
    dup2_stderr(log.as_fd()).map_err(Error::call("dup2"))?;
    Ok(())
}

fn listen_in(dir: &Path) -> Result<OwnedFd> {
    let path = dir.join("shim.sock");
    files::remove_file(&path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket =
        socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(Error::call("socket"))?;
    packet::with_short_path(&path, |short| {
        let address = UnixAddr::new(short)?;
        bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address)
    })
    .map_err(Error::io("listen on", &path))?;
    let backlog = Backlog::new(128).map_err(Error::call("listen"))?;
    listen(&socket, backlog).map_err(Error::io("listen on", &path))?;
    Ok(socket)
}

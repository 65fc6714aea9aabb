//! What server and shim say to each other: one JSON document a packet, over a `SOCK_SEQPACKET` socket.
//!
//! A connection carries one request and its replies. Fields may be added, and must then have a default, because a
//! shim of the release before answers the server of this one; anything else raises [`VERSION`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Raised when a shim and a server of different releases wouldn't understand each other.
pub(crate) const VERSION: u32 = 1;

/// `shim.json`: what a pod's shim is made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodSpec {
    pub(crate) version: u32,
    pub(crate) hostname: String,
    /// The network namespace to hold; none is the host's.
    pub(crate) network: Option<PathBuf>,
    pub(crate) own_ipc: bool,
    pub(crate) own_uts: bool,
    pub(crate) shared_pids: bool,
    /// Written to `/proc/sys` from inside the pod's namespaces.
    #[serde(default)]
    pub(crate) sysctls: Vec<(String, String)>,
    /// The `cgroup.procs` file that the shim enters.
    pub(crate) cgroup_procs: Option<PathBuf>,
}

/// What the launcher prints when the shim is ready.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) pid: u32,
    pub(crate) pause: i32,
}

/// `launch.json`: what the shim must know of a container that its OCI specification doesn't say.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Launch {
    pub(crate) log: Option<PathBuf>,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    /// Who must be able to reopen the standard streams.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) confinement: Confinement,
    /// The container's cgroup directories, one a hierarchy: where OOM kills are counted and strays are killed.
    pub(crate) cgroups: Vec<PathBuf>,
}

/// What a process gives up right before it becomes the container's, for its first process and every exec alike.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Confinement {
    pub(crate) capabilities: Option<oci_spec::runtime::LinuxCapabilities>,
    pub(crate) seccomp: Option<oci_spec::runtime::LinuxSeccomp>,
}

/// `exit.json`: how a container ended. It is on disk before anyone is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Exit {
    /// The exit code, or 128 and the signal's number.
    pub(crate) code: i32,
    pub(crate) finished_at: i64,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` or `ContainerStatusUnknown`.
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) message: String,
}

/// A request, the first packet of a connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "call")]
pub(crate) enum Request {
    /// Creates and starts the container; answered by `Started` or `Failed`.
    Start { container: String },
    /// Runs the process that `process` (a file in the container's directory) describes; answered by `Started`, with
    /// the terminal's descriptor if it has one, or `Failed`, and later by `Exited`. Without a terminal three
    /// descriptors come along: standard input, output and error.
    Exec { container: String, process: String, tty: bool },
    /// Ends the process that this connection's `Exec` started, and its process group.
    Kill,
    /// Connects three descriptors (input, output, error; those not wanted are left out) to the container's streams;
    /// answered by `Done`, with the terminal's descriptor if it has one. Output ends when the container does.
    Attach { container: String, stdin: bool, stdout: bool, stderr: bool },
    /// Signals the container's first process, or everything in it.
    Signal { container: String, signal: i32, everyone: bool },
    /// Closes the log file and opens it anew under its name.
    ReopenLog { container: String },
    /// Answered at once by `Exited` for every container that has ended, then by `Watching`, then by each change.
    Watch,
    /// Lets go of a container that has ended.
    Forget { container: String },
    /// Ends the pause process and the shim.
    Shutdown,
}

/// What the shim answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "reply")]
pub(crate) enum Reply {
    Done,
    Started {
        pid: i32,
    },
    Failed {
        message: String,
    },
    Exited {
        container: String,
        exit: Exit,
    },
    Running {
        container: String,
        pid: i32,
    },
    Watching {
        running: Vec<(String, i32)>,
    },
    /// The pod's namespaces are lost with the pause process.
    PauseEnded,
}

/// What a creator tells the shim, with the terminal's descriptor if there is one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Started(i32),
    Failed(String),
}

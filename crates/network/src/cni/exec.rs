//! Running one plugin.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::sys::statfs::{NSFS_MAGIC, statfs};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process,
};

use super::{INTERFACE, attachment::Attachment};

/// What failed with a plugin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("CNI plugin {plugin} is in none of {}", join(dirs))]
    Missing { plugin: String, dirs: Vec<PathBuf> },
    #[error("CNI plugin {plugin} does not speak version {version}")]
    Version { plugin: String, version: String },
    #[error("running CNI plugin {plugin} {command}: {source}")]
    Run { plugin: String, command: &'static str, source: io::Error },
    /// The plugin's own words. Codes below 100 are the specification's.
    #[error("CNI plugin {plugin} {command} failed: {message} (code {code}){}{details}", if details.is_empty() { "" } else { ": " })]
    Failed { plugin: String, command: &'static str, code: u64, message: String, details: String },
    #[error("CNI plugin {plugin} {command} answered what is no result: {source}")]
    Answer { plugin: String, command: &'static str, source: serde_json::Error },
}

/// Whether a namespace is there: a reboot leaves the file that it was mounted on.
fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == NSFS_MAGIC)
}

fn join(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// How long a plugin may take, and how much it may say.
const PATIENCE: Duration = Duration::from_secs(120);
const LOUDEST: u64 = 1 << 20;

#[derive(Clone, Copy, Debug)]
pub(super) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    fn name(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Status => "STATUS",
            Command::Version => "VERSION",
        }
    }
}

/// One run of one plugin.
pub(super) struct Call<'a> {
    pub(super) command: Command,
    pub(super) plugin: &'a str,
    pub(super) attachment: Option<&'a Attachment>,
    pub(super) request: Value,
}

impl Call<'_> {
    /// Runs the plugin to its end and returns what it answered, if anything.
    pub(super) async fn run(&self, dirs: &[PathBuf]) -> Result<Option<Value>, Error> {
        let command = self.command.name();
        let plugin = || self.plugin.to_owned();
        let program = dirs
            .iter()
            .map(|dir| dir.join(self.plugin))
            .find(|path| path.is_file())
            .ok_or_else(|| Error::Missing { plugin: plugin(), dirs: dirs.to_vec() })?;
        let run = tokio::time::timeout(PATIENCE, self.exchange(&program, dirs));
        let (success, output, complaint) = match run.await {
            Ok(Ok(done)) => done,
            Ok(Err(source)) => return Err(Error::Run { plugin: plugin(), command, source }),
            Err(_elapsed) => {
                let source = io::ErrorKind::TimedOut.into();
                return Err(Error::Run { plugin: plugin(), command, source });
            }
        };
        let answer = match output.trim_ascii().is_empty() {
            true => Ok(None),
            false => serde_json::from_slice::<Value>(&output).map(Some),
        };
        if success {
            return answer.map_err(|source| Error::Answer { plugin: plugin(), command, source });
        }
        let answer = answer.ok().flatten().unwrap_or_default();
        let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
        let message = match text("msg") {
            said if said.is_empty() => String::from_utf8_lossy(complaint.trim_ascii()).into_owned(),
            said => said,
        };
        Err(Error::Failed {
            plugin: plugin(),
            command,
            code: answer["code"].as_u64().unwrap_or(0),
            message,
            details: text("details"),
        })
    }

    async fn exchange(&self, program: &Path, dirs: &[PathBuf]) -> io::Result<(bool, Vec<u8>, Vec<u8>)> {
        let path = std::env::join_paths(dirs).map_err(io::Error::other)?;
        let mut process = process::Command::new(program);
        // Plugins call the host's tools (iptables, say), which they find by PATH; nothing else of ours is theirs.
        process.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        process.env("CNI_COMMAND", self.command.name()).env("CNI_PATH", path);
        if let Some(attachment) = self.attachment {
            // A namespace that is gone is told as none, so that DEL can still free what lies outside of it.
            let netns =
                if is_namespace(&attachment.netns) { attachment.netns.as_path() } else { Path::new("") };
            process
                .env("CNI_CONTAINERID", &attachment.sandbox)
                .env("CNI_NETNS", netns)
                .env("CNI_IFNAME", INTERFACE)
                .env("CNI_ARGS", &attachment.args);
        }
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = process.spawn()?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("no pipes"));
        };
        let request = self.request.to_string();
        let feed = async move {
            match stdin.write_all(request.as_bytes()).await {
                // A plugin need not read what it does not need.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
                _ => Ok(()),
            }
        };
        let (mut output, mut complaint) = (Vec::new(), Vec::new());
        let (mut stdout, mut stderr) = (stdout.take(LOUDEST), stderr.take(LOUDEST));
        tokio::try_join!(feed, stdout.read_to_end(&mut output), stderr.read_to_end(&mut complaint))?;
        Ok((child.wait().await?.success(), output, complaint))
    }
}

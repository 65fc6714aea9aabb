//! Start, stop, removal, and what is done with a container meanwhile. Its shim does it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use tiphys_cri::v1::{ContainerEventType, LinuxContainerResources};

use super::{Container, KILLED, State, making};
use crate::error::{Error, Result};
use crate::record::write_message;
use crate::runtime::Runtime;
use crate::sandbox::{blocking, remove_groups};
use crate::shim::client::{self, Connection};
use crate::shim::protocol::{Exit, Reply, Request};
use crate::{cgroup, clock, files, spec};

/// How long a killed process may take to be gone. It is the kernel's time: disks that hang, for example.
const KILL_PATIENCE: Duration = Duration::from_secs(60);

impl Runtime {
    pub(crate) async fn start_container(&self, id: &str) -> Result<()> {
        let inner = &self.inner;
        let container = inner.container(id)?;
        let _one = container.changing.lock().await;
        if container.state() != State::Created {
            return Err(Error::Precondition(format!("container {} was started before", container.id)));
        }
        inner.host.create(&container.group())?;
        container.update(|record| record.started_at = clock::now_nanos())?;
        let request = Request::Start { container: container.id.clone() };
        match client::ask(&container.sandbox.dir, &request).await {
            Ok(Reply::Started { pid }) => {
                inner.is_running(&container.id, pid);
                let sandbox = &container.sandbox.id;
                inner.announce(ContainerEventType::ContainerStartedEvent, &container.id, sandbox);
                Ok(())
            }
            Ok(other) => Err(Error::Shim(format!("unexpected answer {other:?}"))),
            Err(Error::Shim(message)) => {
                let exit = Exit {
                    code: crate::shim::START_FAILED,
                    finished_at: clock::now_nanos(),
                    reason: "StartError".into(),
                    message: message.clone(),
                };
                files::write_json(&container.dir.join("exit.json"), &exit)?;
                inner.ended(&container.id, exit);
                Err(Error::Start(message))
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn stop_container(&self, id: &str, timeout: Duration) -> Result<()> {
        match self.inner.container(id) {
            Ok(container) => self.stop(&container, timeout).await,
            Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Asks the container to end, waits, and then makes it. One that has ended is stopped.
    pub(crate) async fn stop(&self, container: &Arc<Container>, timeout: Duration) -> Result<()> {
        let signal = |signal, everyone| Request::Signal { container: container.id.clone(), signal, everyone };
        if container.state() == State::Created {
            let _one = container.changing.lock().await;
            if container.state() == State::Created {
                let exit = Exit {
                    code: KILLED,
                    finished_at: clock::now_nanos(),
                    reason: "Error".into(),
                    message: "stopped before it was started".into(),
                };
                files::write_json(&container.dir.join("exit.json"), &exit)?;
                self.inner.ended(&container.id, exit);
            }
        }
        if matches!(container.state(), State::Exited(_)) {
            return Ok(());
        }
        let dir = &container.sandbox.dir;
        if !timeout.is_zero() {
            let stop_signal = container.record.lock().stop_signal;
            // It may end, or its shim, before it is told: the state says so, and what comes next finds out.
            let _ = client::ask(dir, &signal(stop_signal, false)).await;
            if tokio::time::timeout(timeout, container.ended()).await.is_ok() {
                return Ok(());
            }
        }
        // As above.
        let _ = client::ask(dir, &signal(libc::SIGKILL, true)).await;
        match tokio::time::timeout(KILL_PATIENCE, container.ended()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Deadline(format!("container {} doesn't die", container.id))),
        }
    }

    pub(crate) async fn remove_container(&self, id: &str) -> Result<()> {
        let inner = &self.inner;
        let container = match inner.container(id) {
            Ok(container) => container,
            Err(Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        self.stop(&container, Duration::ZERO).await?;
        let _one = container.changing.lock().await;
        // A shim that is gone has forgotten it.
        let _ =
            client::ask(&container.sandbox.dir, &Request::Forget { container: container.id.clone() }).await;
        remove_groups(inner.host.directories(&container.group())).await?;
        let dir = container.dir.clone();
        blocking(move || {
            making::unmount_all(&dir)?;
            // First what makes it exist, so that a crash from here on leaves nothing that counts.
            files::remove_file(&dir.join("container.json"))?;
            files::remove_dir(&dir)
        })
        .await?;
        inner.containers.lock().remove(&container.id);
        inner.announce(ContainerEventType::ContainerDeletedEvent, &container.id, &container.sandbox.id);
        Ok(())
    }

    pub(crate) async fn reopen_log(&self, id: &str) -> Result<()> {
        let container = self.inner.container(id)?;
        if container.pid().is_none() {
            return Err(Error::Precondition(format!("container {} isn't running", container.id)));
        }
        client::ask(&container.sandbox.dir, &Request::ReopenLog { container: container.id.clone() }).await?;
        Ok(())
    }

    /// Changes a container's limits. libcontainer isn't needed for that: they are files.
    pub(crate) async fn update_resources(&self, id: &str, asked: LinuxContainerResources) -> Result<()> {
        let container = self.inner.container(id)?;
        let _one = container.changing.lock().await;
        if matches!(container.state(), State::Exited(_)) {
            return Err(Error::Precondition(format!("container {} has ended", container.id)));
        }
        let merged = merge(container.resources().unwrap_or_default(), asked);
        if container.pid().is_some() {
            cgroup::apply(&self.inner.host, &container.group(), &merged)?;
        } else {
            let path = container.dir.join("config.json");
            let mut spec: serde_json::Value = files::read_json(&path)?;
            let devices = spec["linux"]["resources"]["devices"].as_array().cloned().unwrap_or_default();
            spec["linux"]["resources"] = spec::limits(&merged, &devices, &self.inner.host);
            files::write_json(&path, &spec)?;
        }
        write_message(&container.dir.join("resources.pb"), &merged)
    }

    /// Runs a command in the container. `fds` are its three streams; none with a terminal, which then comes back.
    pub(crate) async fn exec(
        &self,
        container: &Container,
        command: &[String],
        fds: Option<[OwnedFd; 3]>,
    ) -> Result<(Connection, Option<OwnedFd>)> {
        if container.pid().is_none() {
            return Err(Error::Precondition(format!("container {} isn't running", container.id)));
        }
        let spec: serde_json::Value = files::read_json(&container.dir.join("config.json"))?;
        let tty = fds.is_none();
        let name = format!("exec-{}.json", uuid::Uuid::new_v4().simple());
        let path = container.dir.join(&name);
        files::write_json(&path, &spec::exec_process(&spec, command, tty)?)?;
        let connection = Connection::open(&container.sandbox.dir)?;
        let request = Request::Exec { container: container.id.clone(), process: name, tty };
        let fds: Vec<OwnedFd> = fds.into_iter().flatten().collect();
        let answer = connection.ask(&request, &crate::shim::packet::borrow(&fds)).await;
        files::remove_file(&path)?;
        match answer {
            Ok((Reply::Started { .. }, fds)) => Ok((connection, fds.into_iter().next())),
            Ok((other, _)) => Err(Error::Shim(format!("unexpected answer {other:?}"))),
            Err(Error::Shim(problem)) => Err(Error::Start(format!("failed to exec in container: {problem}"))),
            Err(error) => Err(error),
        }
    }
}

/// What is zero or empty isn't asked for, and stays as it was.
fn merge(mut old: LinuxContainerResources, new: LinuxContainerResources) -> LinuxContainerResources {
    let number = |old: &mut i64, new: i64| {
        if new != 0 {
            *old = new;
        }
    };
    number(&mut old.cpu_period, new.cpu_period);
    number(&mut old.cpu_quota, new.cpu_quota);
    number(&mut old.cpu_shares, new.cpu_shares);
    number(&mut old.memory_limit_in_bytes, new.memory_limit_in_bytes);
    number(&mut old.memory_swap_limit_in_bytes, new.memory_swap_limit_in_bytes);
    number(&mut old.oom_score_adj, new.oom_score_adj);
    if !new.cpuset_cpus.is_empty() {
        old.cpuset_cpus = new.cpuset_cpus;
    }
    if !new.cpuset_mems.is_empty() {
        old.cpuset_mems = new.cpuset_mems;
    }
    if !new.hugepage_limits.is_empty() {
        old.hugepage_limits = new.hugepage_limits;
    }
    old.unified.extend(new.unified);
    old
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;

//! `/containerLogs`: finds the right instance of a container and sends its log.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tiphys_cri::v1;
use tokio::sync::mpsc;

use super::{Answer, Query, Refusal, stream};
use crate::kubelet::Inner;
use crate::logs::{self, Alive, Options};
use crate::observed::{Container, ContainerId, Observed, State};
use crate::pod;
use crate::runtime::{Lens, Words};
use crate::volumes::PodDir;

/// Reads the parameters.
fn options(query: &Query) -> Result<Options, Refusal> {
    let number = |name: &str| -> Result<Option<i64>, Refusal> {
        match query.first(name).filter(|t| !t.is_empty()) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                Refusal::bad_request(format!("{name}: Invalid value: \"{text}\": must be a number"))
            }),
        }
    };
    let least = |name: &str, value: Option<i64>, least: i64| match value {
        Some(n) if n < least => Err(Refusal::bad_request(format!(
            "{name}: Invalid value: {n}: must be greater than or equal to {least}"
        ))),
        other => Ok(other),
    };
    let tail = least("tailLines", number("tailLines")?, 0)?;
    let limit = least("limitBytes", number("limitBytes")?, 1)?;
    let seconds = least("sinceSeconds", number("sinceSeconds")?, 1)?;
    let time = match query.first("sinceTime").filter(|t| !t.is_empty()) {
        None => None,
        Some(text) => Some(
            text.parse::<Timestamp>()
                .map_err(|e| Refusal::bad_request(format!("sinceTime: Invalid value: \"{text}\": {e}")))?,
        ),
    };
    let ago = seconds.map(|s| {
        Timestamp::now().saturating_sub(Duration::from_secs(s.unsigned_abs())).unwrap_or(Timestamp::MIN)
    });
    let stream = match query.first("stream") {
        None | Some("" | "All") => None,
        Some("Stdout") => Some("stdout"),
        Some("Stderr") => Some("stderr"),
        Some(other) => {
            return Err(Refusal::bad_request(format!(
                "stream: Unsupported value: \"{other}\": supported values: \"All\", \"Stdout\", \"Stderr\""
            )));
        }
    };
    Ok(Options {
        follow: query.flag(&["follow"]),
        tail: tail.and_then(|n| usize::try_from(n).ok()),
        since: time.or(ago),
        timestamps: query.flag(&["timestamps"]),
        limit: limit.map(i64::unsigned_abs),
        stream,
    })
}

/// Looks at a pod by its name.
pub(super) async fn look(
    inner: &Inner,
    namespace: &str,
    name: &str,
) -> Result<(Arc<k8s_openapi::api::core::v1::Pod>, Observed), Refusal> {
    let found = inner.registry.find(namespace, name);
    let (key, pod) =
        found.ok_or_else(|| Refusal::not_found(format!("pod does not exist: {namespace}/{name}")))?;
    let dir = PodDir::new(&inner.config.data_dir, &key.uid);
    let observed =
        Lens::default().look(&inner.cri, &key.uid, &Words { dir: &dir }).await.map_err(Refusal::internal)?;
    Ok((pod, observed))
}

pub(super) async fn serve(
    inner: &Arc<Inner>,
    namespace: &str,
    name: &str,
    container: &str,
    query: &Query,
) -> Answer {
    let options = options(query)?;
    let (pod, observed) = look(inner, namespace, name).await?;
    let Some(spec) = pod::find_container(&pod, container) else {
        return Err(Refusal::not_found(format!("container \"{container}\" not found in pod \"{name}\"")));
    };
    let previous = query.flag(&["previous"]);
    let Some(instance) = choose(&observed, container, previous, |c| {
        c.exit().is_some_and(|exit| pod::restarts(&pod, &spec, exit.code))
    }) else {
        let message = if previous {
            format!("previous terminated container \"{container}\" in pod \"{name}\" not found")
        } else {
            let why = waiting_reason(&pod, container);
            format!("container \"{container}\" in pod \"{name}\" is waiting to start: {why}")
        };
        return Err(Refusal::bad_request(message));
    };
    let path = PathBuf::from(&instance.log_path);
    let alive = Running { inner: inner.clone(), id: instance.id.clone(), ever: instance.is_running() };
    if let Err(error) = tokio::fs::metadata(&path).await {
        return Err(Refusal::internal(format!(
            "failed to try resolving symlinks in path \"{}\": {error}",
            path.display()
        )));
    }
    let (parts, received) = mpsc::channel(8);
    tokio::spawn(async move {
        if let Err(error) = logs::read(&path, &options, &alive, parts).await {
            tracing::debug!(path = %path.display(), %error, "a log was not read to its end");
        }
    });
    Ok(stream(received))
}

/// The instance whose log is meant: the newest that ran, or the one before it. One that ended and is to be started
/// again counts as the one before.
fn choose<'a>(
    observed: &'a Observed,
    name: &'a str,
    previous: bool,
    will_restart: impl Fn(&Container) -> bool,
) -> Option<&'a Container> {
    let mut ran = observed.instances(name).filter(|c| c.is_running() || c.exit().is_some()).peekable();
    if !previous {
        return ran.next();
    }
    let made = observed.instances(name).next().is_some_and(|c| c.state == State::Created);
    if !made && ran.peek().is_some_and(|c| !will_restart(c)) {
        ran.next();
    }
    ran.find(|c| c.exit().is_some())
}

fn waiting_reason(pod: &k8s_openapi::api::core::v1::Pod, container: &str) -> String {
    let status = pod.status.as_ref();
    let lists = status
        .into_iter()
        .flat_map(|s| [&s.init_container_statuses, &s.container_statuses, &s.ephemeral_container_statuses]);
    let found = lists.flatten().flatten().find(|s| s.name == container);
    let waiting = found.and_then(|s| s.state.as_ref()?.waiting.as_ref());
    let Some(waiting) = waiting else { return "ContainerCreating".to_owned() };
    let reason = waiting.reason.clone().unwrap_or_default();
    match &waiting.message {
        Some(message) if reason.ends_with("BackOff") || reason.starts_with("Err") => {
            format!("trying and failing to pull image: {message}")
        }
        _ => reason,
    }
}

struct Running {
    inner: Arc<Inner>,
    id: ContainerId,
    ever: bool,
}

impl Alive for Running {
    async fn alive(&self) -> bool {
        if !self.ever {
            return false;
        }
        let request = v1::ContainerStatusRequest { container_id: self.id.0.clone(), verbose: false };
        let status = self.inner.cri.runtime().container_status(request).await;
        let state = status.ok().and_then(|s| s.into_inner().status).map(|s| s.state);
        state == Some(v1::ContainerState::ContainerRunning as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::Exit;
    use crate::testing::instance;

    #[test]
    fn the_instance_that_is_meant_is_found() {
        let exited = || {
            let at = Timestamp::UNIX_EPOCH;
            State::Exited(Exit {
                started_at: None,
                finished_at: at,
                code: 1,
                reason: String::new(),
                message: String::new(),
            })
        };
        let running = || State::Running { started_at: Timestamp::UNIX_EPOCH };
        let pick = |states: Vec<State>, previous: bool, restarts: bool| {
            let list = states.into_iter().enumerate().map(|(i, s)| instance("c", i as u32, "s", s)).collect();
            let observed = Observed::new(vec![], list);
            choose(&observed, "c", previous, |c| restarts && c.exit().is_some()).map(|c| c.attempt)
        };
        assert_eq!(pick(vec![], false, true), None);
        assert_eq!(pick(vec![State::Created], false, true), None);
        assert_eq!(pick(vec![exited(), running()], false, true), Some(1));
        assert_eq!(pick(vec![exited(), running()], true, true), Some(0));
        assert_eq!(pick(vec![exited(), exited()], false, true), Some(1));
        assert_eq!(pick(vec![exited(), exited()], true, true), Some(1));
        assert_eq!(pick(vec![exited(), exited()], true, false), Some(0));
        assert_eq!(pick(vec![exited()], true, false), None);
        assert_eq!(pick(vec![exited(), State::Created], true, true), Some(0));
        assert_eq!(pick(vec![running()], true, true), None);
    }

    #[test]
    fn parameters_are_checked() {
        let read = |q: &str| options(&Query::parse(q)).map_err(|Refusal(_, text)| text);
        let ok = read("follow=true&tailLines=3&timestamps=1&limitBytes=9&stream=Stderr").unwrap();
        let want = Options {
            follow: true,
            tail: Some(3),
            timestamps: true,
            limit: Some(9),
            stream: Some("stderr"),
            since: None,
        };
        assert_eq!(ok, want);
        for bad in [
            "tailLines=-1",
            "tailLines=x",
            "limitBytes=0",
            "sinceSeconds=0",
            "sinceTime=yesterday",
            "stream=x",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}

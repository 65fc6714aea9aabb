//! What probes find out about a pod's running containers.

use k8s_openapi::api::core::v1::ContainerStatus;
use tokio_util::task::AbortOnDropHandle;

use super::{Life, Worker};
use crate::context::about_container;
use crate::counts::Tries;
use crate::observed::{Container, ContainerId, State};
use crate::plan::{Busy, Health, Unhealthy};
use crate::pod::{self, Role};
use crate::probes::{self, Handler, Purpose, Schedule, Target};

impl Worker {
    /// Takes note of what a probe has found out.
    pub(super) fn judge(&mut self, news: &probes::News) {
        let Some(container) = self.observed.by_id(&news.container) else { return };
        let spec = pod::find_container(&self.pod, &container.name);
        let Some(health) = self.health.get_mut(&news.container) else { return };
        let grace = |purpose| {
            let c = &spec.as_ref()?.spec;
            let probe = if purpose == Purpose::Startup { &c.startup_probe } else { &c.liveness_probe };
            probe.as_ref()?.termination_grace_period_seconds
        };
        match (news.purpose, news.good) {
            (Purpose::Startup, true) => health.started = true,
            (Purpose::Readiness, good) => health.ready = good,
            (Purpose::Liveness, true) => {}
            (purpose, false) => {
                health.unhealthy = Some(Unhealthy { what: purpose.lower(), grace_seconds: grace(purpose) });
            }
        }
    }

    /// Keeps a record and, where the spec asks for them, probes of every running container.
    pub(super) fn watch_health(&mut self) {
        let running: Vec<Container> = self.observed.running().cloned().collect();
        self.health.retain(|id, _| running.iter().any(|c| c.id == *id));
        self.probes.retain(|(id, _), _| running.iter().any(|c| c.id == *id));
        for container in &running {
            let Some(spec) = pod::find_container(&self.pod, &container.name) else { continue };
            let before = self.recorded(&container.name, &container.id);
            let hook_pending = self.busy.contains_key(&Busy::Start(container.name.clone()));
            let c = spec.spec.clone().into_owned();
            let health = self.health.entry(container.id.clone()).or_insert_with(|| Health {
                started: false,
                ready: c.readiness_probe.is_none() || before.as_ref().is_some_and(|b| b.ready),
                unhealthy: None,
            });
            if !health.started && !hook_pending {
                health.started = c.startup_probe.is_none() || before.is_some_and(|b| b.started == Some(true));
            }
            let (started, ready) = (health.started, health.ready);
            if !matches!(spec.role, Role::Main | Role::Sidecar) {
                continue;
            }
            let stopping = self.life != Life::Running;
            let wanted = [
                (Purpose::Startup, &c.startup_probe, !started && !hook_pending && !stopping, false),
                (Purpose::Liveness, &c.liveness_probe, started && !stopping, true),
                (Purpose::Readiness, &c.readiness_probe, started, ready),
            ];
            for (purpose, probe, wanted, verdict) in wanted {
                let id = (container.id.clone(), purpose);
                match probe {
                    Some(probe) if wanted => {
                        if !self.probes.contains_key(&id) {
                            let task = self.probe(container, &c, purpose, probe, verdict);
                            self.probes.insert(id, task);
                        }
                    }
                    _ => {
                        self.probes.remove(&id);
                    }
                }
            }
        }
    }

    /// What the API last knew of a container, if it was this very instance.
    fn recorded(&self, name: &str, id: &ContainerId) -> Option<ContainerStatus> {
        let status = self.pod.status.as_ref().filter(|_| self.adopted)?;
        let lists = [&status.init_container_statuses, &status.container_statuses];
        let found = lists.into_iter().flatten().flatten().find(|s| s.name == name)?;
        found.container_id.as_deref()?.ends_with(&format!("://{id}")).then(|| found.clone())
    }

    fn probe(
        &self,
        container: &Container,
        spec: &k8s_openapi::api::core::v1::Container,
        purpose: Purpose,
        probe: &k8s_openapi::api::core::v1::Probe,
        verdict: bool,
    ) -> AbortOnDropHandle<()> {
        let State::Running { started_at } = container.state else {
            return AbortOnDropHandle::new(tokio::spawn(async {}));
        };
        let task = probes::Task {
            container: container.id.clone(),
            started_at,
            purpose,
            schedule: Schedule::of(probe),
            handler: Handler::of_probe(spec, probe),
            target: Target { cri: self.ctx.cri.clone(), container: container.id.clone(), ip: self.ip() },
            verdict,
            tries: Tries::of([
                purpose.title().to_owned(),
                container.name.clone(),
                self.key.name.clone(),
                self.key.namespace.clone(),
                self.key.uid.to_string(),
            ]),
            spread: self.adopted,
        };
        let (mailbox, events) = (self.mailbox.clone(), self.ctx.events.clone());
        let about = about_container(&self.pod, &container.name);
        AbortOnDropHandle::new(tokio::spawn(async move {
            let report = |news| mailbox.put(|inbox| inbox.probes.push_back(news));
            task.run(report, |reason, text: String| events.warning(&about, reason, text)).await;
        }))
    }
}

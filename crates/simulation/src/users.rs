//! What users do: they make workloads, change them, and take some away again.

use std::{sync::Arc, time::Duration};

use kube::Client;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    api::{self, code},
    chance::Chance,
    laws::{CROWD, TIGHT},
    machine::{FAILS, WORK},
    trace::Trace,
};

mod afar;
mod elastic;
mod steady;
mod troupe;

const SHOP: &str = "shop";
/// The class of all volumes; nobody makes more of them.
const DISKS: &str = "disks";

/// The version of the image that everything has in the end.
const LAST: u64 = 5;

/// Somebody with kubectl.
pub(crate) struct User {
    pub(crate) client: Client,
    pub(crate) chance: Arc<Chance>,
    pub(crate) trace: Arc<Trace>,
}

/// What there is, and what may be done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Deployment,
    StatefulSet,
    DaemonSet,
    Job,
    CronJob,
}

impl Kind {
    fn path(self) -> &'static str {
        match self {
            Self::Deployment => "/apis/apps/v1/namespaces/shop/deployments",
            Self::StatefulSet => "/apis/apps/v1/namespaces/shop/statefulsets",
            Self::DaemonSet => "/apis/apps/v1/namespaces/shop/daemonsets",
            Self::Job => "/apis/batch/v1/namespaces/shop/jobs",
            Self::CronJob => "/apis/batch/v1/namespaces/shop/cronjobs",
        }
    }
}

fn template(app: &str, restart: &str, annotations: Value) -> Value {
    json!({"metadata": {"labels": {"app": app}, "annotations": annotations}, "spec": {
        "restartPolicy": restart, "terminationGracePeriodSeconds": 5, "automountServiceAccountToken": false,
        "containers": [{"name": "app", "image": "registry.example/app:1",
            "resources": {"requests": {"cpu": "200m"}}}]}})
}

/// A change to a version of the image.
fn image(version: u64) -> Value {
    let image = format!("registry.example/app:{version}");
    let containers = json!([{"name": "app", "image": image, "resources": {"requests": {"cpu": "200m"}}}]);
    json!({"spec": {"template": {"spec": {"containers": containers}}}})
}

impl User {
    /// Repeats a request until the server has said yes, or a no that is good enough.
    async fn insist(&self, what: &str, enough: &[u16], ask: impl AsyncFn() -> api::Answer) {
        loop {
            match ask().await {
                Ok(_) => break,
                Err(error) if code(&error).is_some_and(|code| enough.contains(&code)) => break,
                Err(error)
                    if code(&error)
                        .is_some_and(|c| (400..500).contains(&c) && !matches!(c, 403 | 409 | 429)) =>
                {
                    self.trace.fail(format!("a user's request to {what} is refused: {error}"));
                    break;
                }
                Err(_) => sleep(Duration::from_millis(500)).await,
            }
        }
        self.trace.step(format_args!("# {what}"));
    }

    async fn create(&self, collection: &str, object: Value) {
        let what = format!("create {collection}/{}", object["metadata"]["name"]);
        self.insist(&what, &[], async || {
            let created = api::post(&self.client, collection, &object).await;
            // A conflict may be the simulation's: what counts is that the object is there.
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            match created {
                Err(error) if code(&error) == Some(409) => {
                    let found = api::get(&self.client, &format!("{collection}/{name}")).await;
                    found.map_err(|_| error)
                }
                other => other,
            }
        })
        .await;
    }

    async fn patch(&self, object: &str, patch: Value) {
        self.insist(&format!("patch {object} {patch}"), &[404], async || {
            api::patch(&self.client, object, &patch).await
        })
        .await;
    }

    async fn delete(&self, object: &str, how: &str) {
        let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": how});
        self.insist(&format!("delete {object} {how}"), &[404], async || {
            api::delete(&self.client, object, &body).await
        })
        .await;
    }

    async fn namespace(&self, name: &str) {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.create("/api/v1/namespaces", object).await;
        // Pods are refused before it has its account.
        let path = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        while api::get(&self.client, &path).await.is_err() {
            sleep(Duration::from_millis(300)).await;
        }
    }

    /// Makes workloads, and changes them for a while. In the end everything can come to rest.
    pub(crate) async fn act(self, lasts: Duration) {
        self.namespace(SHOP).await;
        let mut there = Vec::new();
        self.volumes().await;
        let mut kinds =
            vec![Kind::Deployment, Kind::Deployment, Kind::StatefulSet, Kind::StatefulSet, Kind::Job];
        let mut first = vec![Kind::DaemonSet, Kind::CronJob];
        first.extend((0..self.chance.between(2, 4)).map(|_| kinds.remove(self.chance.index(kinds.len()))));
        let mut number = 0;
        for kind in first {
            there.push(self.make(kind, number).await);
            number += 1;
        }
        if self.chance.one_in(3) {
            self.tight().await;
        }
        if self.chance.one_in(2) {
            self.crowd().await;
        }
        let end = tokio::time::Instant::now() + lasts;
        while tokio::time::Instant::now() < end {
            sleep(self.chance.millis(1000, 20_000)).await;
            if there.is_empty() || self.chance.one_in(6) {
                there.push(self.make(*self.chance.pick(&[Kind::Deployment, Kind::Job]), number).await);
                number += 1;
                continue;
            }
            let at = self.chance.index(there.len());
            if !self.change(there[at].clone()).await {
                let (kind, _) = there.remove(at);
                // Of these there is always one.
                if matches!(kind, Kind::DaemonSet | Kind::CronJob) {
                    there.push(self.make(kind, number).await);
                    number += 1;
                }
            }
        }
        for (kind, path) in there {
            if matches!(kind, Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet) {
                self.patch(&path, image(LAST)).await;
            }
            match kind {
                Kind::Deployment => self.patch(&path, json!({"spec": {"paused": false}})).await,
                Kind::CronJob => self.patch(&path, json!({"spec": {"suspend": true}})).await,
                Kind::Job => self.patch(&path, json!({"spec": {"suspend": false}})).await,
                _ => {}
            }
        }
    }

    /// As many as all StatefulSets can ever claim, and keep when they are gone.
    async fn volumes(&self) {
        for number in 0..12 {
            let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
                "metadata": {"name": format!("disk-{number}")},
                "spec": {"capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"],
                    "storageClassName": DISKS, "hostPath": {"path": format!("/disks/{number}")}}});
            self.create("/api/v1/persistentvolumes", volume).await;
        }
    }

    /// A namespace with less room than is asked for.
    async fn tight(&self) {
        self.namespace(TIGHT).await;
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"},
            "spec": {"hard": {"pods": "3"}}});
        let quotas = "/api/v1/namespaces/tight/resourcequotas";
        self.create(quotas, quota).await;
        // Before its controller has counted, requests are refused for that, not for the lack of room.
        let counted = |quota: &Value| quota.pointer("/status/used/pods").is_some();
        while !api::get(&self.client, &format!("{quotas}/few")).await.is_ok_and(|quota| counted(&quota)) {
            sleep(Duration::from_millis(300)).await;
        }
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many"},
            "spec": {"replicas": self.chance.between(2, 6), "selector": {"matchLabels": {"app": "many"}},
                "template": template("many", "Always", json!({}))}});
        self.create("/apis/apps/v1/namespaces/tight/deployments", deployment).await;
    }

    /// Pods that take what others leave, and have to go when others want it.
    async fn crowd(&self) {
        self.namespace(CROWD).await;
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": "least"}, "value": -10});
        self.create("/apis/scheduling.k8s.io/v1/priorityclasses", class).await;
        let mut template = template("crowd", "Always", json!({}));
        template["spec"]["priorityClassName"] = json!("least");
        template["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("1000m");
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "crowd"},
            "spec": {"replicas": self.chance.between(16, 26), "selector": {"matchLabels": {"app": "crowd"}},
                "template": template}});
        self.create("/apis/apps/v1/namespaces/crowd/deployments", deployment).await;
    }

    async fn make(&self, kind: Kind, number: u64) -> (Kind, String) {
        let (name, chance) = (format!("{kind:?}-{number}").to_lowercase(), &self.chance);
        let app = name.as_str();
        let replicas = chance.between(1, 6);
        let labels = json!({"matchLabels": {"app": app}});
        let mut object = match kind {
            Kind::Deployment => {
                let shares = [json!(0), json!(1), json!(2), json!("25%"), json!("50%")];
                let surge = chance.pick(&shares).clone();
                let missing = chance.pick(&shares).clone();
                let missing = if surge == json!(0) { json!(1) } else { missing };
                let rolling = json!({"type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": surge, "maxUnavailable": missing}});
                let strategy = if chance.one_in(6) { json!({"type": "Recreate"}) } else { rolling };
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": replicas,
                    "selector": labels, "strategy": strategy, "revisionHistoryLimit": chance.between(0, 3),
                    "template": template(app, "Always", json!({}))}})
            }
            Kind::StatefulSet => {
                let policy = *chance.pick(&["OrderedReady", "OrderedReady", "Parallel"]);
                let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                    "storageClassName": DISKS, "resources": {"requests": {"storage": "1Gi"}}}});
                let claims = if chance.one_in(2) { json!([claim]) } else { json!([]) };
                json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": {"replicas": replicas.min(4),
                    "selector": labels, "serviceName": app, "podManagementPolicy": policy,
                    "volumeClaimTemplates": claims,
                    "template": template(app, "Always", json!({}))}})
            }
            Kind::DaemonSet => json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": {
                "selector": labels, "template": template(app, "Always", json!({}))}}),
            Kind::Job => json!({"apiVersion": "batch/v1", "kind": "Job", "spec": self.job(app)}),
            Kind::CronJob => {
                let policy = *chance.pick(&["Allow", "Forbid", "Replace"]);
                json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"schedule": "* * * * *",
                    "concurrencyPolicy": policy, "jobTemplate": {"spec": self.job(app)}}})
            }
        };
        object["metadata"] = json!({"name": name, "labels": {"app": app}});
        self.create(kind.path(), object).await;
        if kind == Kind::Deployment {
            let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"selector": {"app": app}, "ports": [{"port": 80}]}});
            self.create("/api/v1/namespaces/shop/services", service).await;
        }
        if matches!(kind, Kind::Deployment | Kind::StatefulSet) && chance.one_in(2) {
            let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "metadata": {"name": name},
                "spec": {"minAvailable": chance.between(1, replicas), "selector": {"matchLabels": {"app": app}}}});
            self.create("/apis/policy/v1/namespaces/shop/poddisruptionbudgets", budget).await;
        }
        (kind, format!("{}/{name}", kind.path()))
    }

    fn job(&self, app: &str) -> Value {
        let chance = &self.chance;
        let mut notes = json!({WORK: chance.between(2, 20).to_string()});
        if chance.one_in(2) {
            notes[FAILS] = json!(chance.between(2, 6).to_string());
        }
        let completions = chance.between(1, 6);
        let mode = *chance.pick(&["NonIndexed", "NonIndexed", "Indexed"]);
        let mut job = json!({"completions": completions, "parallelism": chance.between(1, 4),
            "completionMode": mode, "backoffLimit": chance.between(0, 4),
            "template": template(app, "Never", notes)});
        if chance.one_in(3) {
            job["activeDeadlineSeconds"] = json!(chance.between(10, 60));
        }
        job
    }

    /// Changes something; `false` if it is gone.
    async fn change(&self, (kind, path): (Kind, String)) -> bool {
        let chance = &self.chance;
        let template = image(chance.between(1, LAST - 1));
        if chance.one_in(8) {
            let how = *chance.pick(&["Background", "Background", "Foreground"]);
            self.delete(&path, how).await;
            if kind == Kind::Deployment {
                let name = path.rsplit('/').next().unwrap_or_default();
                self.delete(&format!("/api/v1/namespaces/shop/services/{name}"), "Background").await;
            }
            return false;
        }
        match kind {
            Kind::Deployment => match chance.below(6) {
                0..=2 => self.patch(&path, template).await,
                3 | 4 => self.patch(&path, json!({"spec": {"replicas": chance.between(0, 7)}})).await,
                _ => self.patch(&path, json!({"spec": {"paused": chance.one_in(2)}})).await,
            },
            Kind::StatefulSet => match chance.below(2) {
                0 => self.patch(&path, template).await,
                _ => self.patch(&path, json!({"spec": {"replicas": chance.between(0, 5)}})).await,
            },
            Kind::DaemonSet => self.patch(&path, template).await,
            Kind::Job => match chance.below(3) {
                0 => self.patch(&path, json!({"spec": {"suspend": chance.one_in(2)}})).await,
                _ => self.patch(&path, json!({"spec": {"parallelism": chance.between(1, 5)}})).await,
            },
            Kind::CronJob => self.patch(&path, json!({"spec": {"suspend": chance.one_in(3)}})).await,
        }
        true
    }

    /// Evicts some pod, as a drain does.
    pub(crate) async fn evict(&self) {
        let Ok(pods) = api::get(&self.client, "/api/v1/namespaces/shop/pods").await else { return };
        let Some(pods) = pods["items"].as_array().filter(|pods| !pods.is_empty()) else { return };
        let name = &chance_pick(&self.chance, pods)["metadata"]["name"];
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
        let path = format!("/api/v1/namespaces/shop/pods/{}/eviction", name.as_str().unwrap_or_default());
        // A budget may say no.
        drop(api::post(&self.client, &path, &eviction).await);
    }

    /// Takes a node away.
    pub(crate) async fn remove_node(&self, name: &str) {
        self.delete(&format!("/api/v1/nodes/{name}"), "Background").await;
    }

    /// Writes a note on some object, so that somebody else's write conflicts.
    pub(crate) async fn meddle(&self) {
        let collections = [
            "/api/v1/namespaces/shop/pods",
            "/apis/apps/v1/namespaces/shop/replicasets",
            "/apis/apps/v1/namespaces/shop/deployments",
            "/apis/batch/v1/namespaces/shop/jobs",
        ];
        let collection = *self.chance.pick(&collections);
        let Ok(all) = api::get(&self.client, collection).await else { return };
        for object in all["items"].as_array().into_iter().flatten() {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let note = json!({"metadata": {"annotations": {"meddled": self.chance.below(1000).to_string()}}});
            // It may be gone.
            drop(api::patch(&self.client, &format!("{collection}/{name}"), &note).await);
        }
    }
}

fn chance_pick<'a>(chance: &Chance, from: &'a [Value]) -> &'a Value {
    chance.pick(from)
}

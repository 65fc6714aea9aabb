//! Helpers that several test modules share: a runtime and an API that live in memory, and a node over both.

pub(crate) mod api;
pub(crate) mod runtime;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::observed::{Container, ContainerId, SandboxId, State};
use crate::{Config, Kubelet};
use api::Api;
use runtime::FakeRuntime;

/// A pod from JSON.
pub(crate) fn pod_from(value: Value) -> Pod {
    serde_json::from_value(value).expect("a pod")
}

/// An instance of a container of image `i`, the later made the higher its number.
pub(crate) fn instance(name: &str, attempt: u32, sandbox: &str, state: State) -> Container {
    Container {
        id: ContainerId(format!("{name}{attempt}")),
        sandbox: SandboxId(sandbox.into()),
        name: name.into(),
        attempt,
        state,
        created_at: Timestamp::from_second(10 + i64::from(attempt)).expect("a time"),
        image: "i".into(),
        image_ref: String::new(),
        hash: String::new(),
        termination_path: String::new(),
        fallback_to_logs: false,
        grace_seconds: None,
        user: None,
        log_path: String::new(),
        stop_signal: String::new(),
        resources: None,
        again: false,
    }
}

/// A node over fakes, in a mount namespace and a cgroup of its own.
pub(crate) struct World {
    pub(crate) api: Api,
    pub(crate) runtime: FakeRuntime,
    pub(crate) config: Config,
    pub(crate) kubelet: Kubelet,

    stop: CancellationToken,
    running: Option<tokio::task::JoinHandle<()>>,
    _dir: Arc<tempfile::TempDir>,
}

impl World {
    pub(crate) fn pods(&self) -> String {
        "/api/v1/namespaces/ns/pods".to_owned()
    }

    /// Starts a node; its pods must be bound to `n`.
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// Starts a node with other settings.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = Arc::new(tempfile::tempdir().expect("a directory"));
        let unique = dir.path().file_name().unwrap_or_default().to_string_lossy().replace('.', "");
        let mut config = Config::new("n", dir.path().join("node"), &format!("/tiphys-node-test-{unique}"));
        config.addresses = vec!["192.0.2.1".parse().expect("an address")];
        config.dns.servers = vec!["10.96.0.10".to_owned()];
        change(&mut config);
        let api = Api::default();
        for namespace in ["ns", "default", "kube-node-lease"] {
            api.put(&format!("/api/v1/namespaces/{namespace}"), json!({"kind": "Namespace"}));
        }
        let runtime = FakeRuntime::default();
        Self::over(api, runtime, config, dir)
    }

    fn over(api: Api, runtime: FakeRuntime, config: Config, dir: Arc<tempfile::TempDir>) -> Self {
        let kubelet = Kubelet::new(config.clone(), api.client(), runtime.client());
        let stop = CancellationToken::new();
        let (node, until) = (kubelet.clone(), stop.clone());
        let running = tokio::spawn(async move {
            if let Err(error) = node.run(until.cancelled_owned()).await {
                panic!("the node does not run: {error}");
            }
        });
        Self { api, runtime, config, kubelet, stop, running: Some(running), _dir: dir }
    }

    /// Stops the node as a crash would, lets things happen, and starts another over what is left.
    pub(crate) async fn restart(mut self, meanwhile: impl FnOnce(&FakeRuntime, &Api)) -> Self {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            running.await.expect("the node ran until it was stopped");
        }
        let (api, runtime, config, dir) =
            (self.api.clone(), self.runtime.clone(), self.config.clone(), self._dir.clone());
        self.config.cgroup_root = String::new();
        meanwhile(&runtime, &api);
        Self::over(api, runtime, config, dir)
    }

    /// Creates a pod in namespace `ns`, bound to the node.
    pub(crate) fn create(&self, name: &str, spec: Value) -> String {
        let mut spec = spec;
        spec["nodeName"] = json!("n");
        for list in ["containers", "initContainers"] {
            for c in spec[list].as_array_mut().into_iter().flatten() {
                if c.get("image").is_none() {
                    c["image"] = json!("run:1");
                }
            }
        }
        let path = format!("{}/{name}", self.pods());
        let uid = format!("uid-{name}");
        self.api.put(
            &path,
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": "ns", "uid": uid, "generation": 1},
                "spec": spec, "status": {"phase": "Pending"}}),
        );
        path
    }

    /// Marks a pod for deletion as the API server does.
    pub(crate) fn delete(&self, path: &str, grace: i64) {
        self.api.change(path, |pod| {
            pod["metadata"]["deletionTimestamp"] = json!(jiff::Timestamp::now().to_string());
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        });
    }

    /// Waits until an object is as it should be; `None` is an object that is not there.
    pub(crate) async fn until(&self, path: &str, what: &str, test: impl Fn(Option<&Value>) -> bool) -> Value {
        let mut changes = self.api.changes();
        let wait = async {
            loop {
                let object = self.api.get(path);
                if test(object.as_ref()) {
                    return object.unwrap_or(Value::Null);
                }
                changes.changed().await.expect("the API lives");
            }
        };
        match tokio::time::timeout(Duration::from_secs(60), wait).await {
            Ok(object) => object,
            Err(_) => panic!(
                "{path} did not become {what}: {:#}\ncalls: {:#?}",
                self.api.get(path).map(|o| o["status"].clone()).unwrap_or_default(),
                self.runtime.calls()
            ),
        }
    }

    /// Waits until a pod has a phase.
    pub(crate) async fn phase(&self, path: &str, phase: &str) -> Value {
        self.until(path, phase, |p| p.is_some_and(|p| p["status"]["phase"] == phase)).await
    }

    /// Waits until a pod is Ready.
    pub(crate) async fn ready(&self, path: &str) -> Value {
        self.until(path, "ready", |p| p.is_some_and(|p| condition(p, "Ready") == "True")).await
    }

    /// Waits until an object is gone.
    pub(crate) async fn gone(&self, path: &str) {
        self.until(path, "gone", |p| p.is_none()).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        if !self.config.cgroup_root.is_empty()
            && let Err(error) = crate::remove_leftovers(&self.config)
        {
            eprintln!("leftovers: {error}");
        }
    }
}

/// The status of a pod's condition.
pub(crate) fn condition<'a>(pod: &'a Value, kind: &str) -> &'a str {
    let list = pod["status"]["conditions"].as_array();
    let found = list.into_iter().flatten().find(|c| c["type"] == kind);
    found.and_then(|c| c["status"].as_str()).unwrap_or_default()
}

/// Runs a test on a thread with a mount namespace of its own. Without root there is nothing to test.
pub(crate) fn isolated<F>(test: impl FnOnce() -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        nix::mount::mount(
            None::<&str>,
            "/",
            None::<&str>,
            nix::mount::MsFlags::MS_PRIVATE | nix::mount::MsFlags::MS_REC,
            None::<&str>,
        )
        .expect("private mounts");
        // The blocking threads are made from this one and share its namespace.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

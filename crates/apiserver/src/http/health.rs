//! `/healthz`, `/livez`, `/readyz` and `/version`.

use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::body::Body;
use super::query::Query;
use super::{Handler, not_here, respond};
use tiphys_api::status::Status;

/// The endpoints that can be asked for all checks, or by a path below for one.
const ENDPOINTS: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// The endpoint that a path belongs to; empty for another path.
pub(super) fn endpoint(path: &str) -> &'static str {
    let below = |endpoint: &&&str| {
        path.strip_prefix(**endpoint).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    ENDPOINTS.iter().find(below).copied().unwrap_or_default()
}

/// Whether a path asks for the server's health.
pub(super) fn is_check(path: &str) -> bool {
    !endpoint(path).is_empty()
}

/// A check, named as upstream names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// Something answers.
    Ping,
    Log,
    /// The store can be read.
    Store(&'static str),
    /// The watch cache follows the store.
    Cache,
    /// One of [`STARTED`].
    Started(&'static str),
    /// The server is not on its way out.
    Shutdown,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Log => "log",
            Self::Store(name) | Self::Started(name) => name,
            Self::Cache => "informer-sync",
            Self::Shutdown => "shutdown",
        }
    }

    /// The checks of an endpoint: a server that is on its way out is alive, but takes no more work.
    fn of(endpoint: &str) -> Vec<Self> {
        let mut checks = vec![Self::Ping, Self::Log, Self::Store("etcd")];
        if endpoint == "/readyz" {
            checks.extend([Self::Store("etcd-readiness"), Self::Cache]);
        }
        checks.extend(STARTED.map(Self::Started));
        if endpoint == "/readyz" {
            checks.push(Self::Shutdown);
        }
        checks
    }
}

/// What upstream's start vouches for under these names has been done, or goes on by itself, before anybody is
/// answered: the cache is full, stored definitions are served, objects that every cluster has are made, definitions
/// and APIServices are followed. No address has to be repaired: it is claimed with what has it.
const STARTED: [&str; 23] = [
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/priority-and-fairness-filter",
    "poststarthook/storage-readiness",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-service-ip-repair-controllers",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-kubernetes-service-cidr-controller",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
    "poststarthook/apiservice-openapi-controller",
];

/// A store that takes longer to tell its revision is no store to rely on.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

impl Handler {
    /// Answers an endpoint, or one check below it.
    ///
    /// # Errors
    /// 404 for a check that there is not.
    pub(super) async fn health(&self, path: &str, query: &Query) -> Result<Response<Body>, Status> {
        let endpoint = endpoint(path);
        let one = path.strip_prefix(endpoint).unwrap_or_default().trim_matches('/');
        if one.is_empty() {
            return Ok(self.all_checks(endpoint, query).await);
        }
        let check = Check::of(endpoint).into_iter().find(|check| check.name() == one).ok_or_else(not_here)?;
        Ok(match self.check(endpoint, check).await {
            Ok(()) => respond::text(StatusCode::OK, "ok"),
            Err(why) => {
                respond::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n"))
            }
        })
    }

    async fn all_checks(&self, endpoint: &str, query: &Query) -> Response<Body> {
        let name = endpoint.trim_start_matches('/');
        let mut excluded: Vec<&str> = query.all("exclude").collect();
        excluded.sort_unstable();
        excluded.dedup();
        let (mut report, mut fine) = (String::new(), true);
        for check in Check::of(endpoint) {
            let called = check.name();
            if let Some(at) = excluded.iter().position(|name| *name == called) {
                excluded.remove(at);
                report.push_str(&format!("[+]{called} excluded: ok\n"));
                continue;
            }
            match self.check(endpoint, check).await {
                Ok(()) => report.push_str(&format!("[+]{called} ok\n")),
                Err(why) => {
                    fine = false;
                    tracing::warn!(check = called, endpoint, %why, "a health check failed");
                    report.push_str(&format!("[-]{called} failed: reason withheld\n"));
                }
            }
        }
        if !excluded.is_empty() {
            let names: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
            let names = names.join(",");
            report
                .push_str(&format!("warn: some health checks cannot be excluded: no matches for {names}\n"));
        }
        if !fine {
            report.push_str(&format!("{name} check failed\n"));
            return respond::text(StatusCode::INTERNAL_SERVER_ERROR, report);
        }
        if query.get("verbose").is_none() {
            return respond::text(StatusCode::OK, "ok");
        }
        report.push_str(&format!("{name} check passed\n"));
        respond::text(StatusCode::OK, report)
    }

    /// Whether the store can be read.
    pub(super) async fn store_health(&self) -> Result<(), String> {
        match tokio::time::timeout(STORE_PATIENCE, self.registry.store().revision()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the store does not answer".to_owned()),
        }
    }

    async fn check(&self, endpoint: &str, check: Check) -> Result<(), String> {
        let found = self.look(check).await;
        self.metrics.checks.ended(check.name(), endpoint.trim_start_matches('/'), found.is_ok());
        found
    }

    async fn look(&self, check: Check) -> Result<(), String> {
        match check {
            Check::Ping | Check::Log | Check::Started(_) => Ok(()),
            Check::Store(_) => self.store_health().await,
            Check::Cache => match futures::FutureExt::now_or_never(self.registry.cache().ended()) {
                None => Ok(()),
                Some(error) => Err(error.to_string()),
            },
            Check::Shutdown if self.stop.is_cancelled() => Err("the server is shutting down".to_owned()),
            Check::Shutdown => Ok(()),
        }
    }
}

/// The parts of the version that is served: names of fields, as `version.Info` and `kubernetes_build_info` have
/// them, and values.
pub(super) fn version_parts() -> [(&'static str, String); 9] {
    let text = str::to_owned;
    [
        ("major", text("1")),
        ("minor", text("37")),
        ("gitVersion", text(concat!("v1.37.0+tiphys-", env!("CARGO_PKG_VERSION")))),
        ("gitCommit", text(option_env!("TIPHYS_COMMIT").unwrap_or(""))),
        ("gitTreeState", text("clean")),
        ("buildDate", text("1970-01-01T00:00:00Z")),
        ("goVersion", text("rust")),
        ("compiler", text("rustc")),
        ("platform", format!("{}/{}", std::env::consts::OS, go_arch(std::env::consts::ARCH))),
    ]
}

/// The version of the API that is served, as `version.Info`.
pub(super) fn version() -> Value {
    let mut info = json!({
        "emulationMajor": "1", "emulationMinor": "37", "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
    });
    for (name, value) in version_parts() {
        info[name] = value.into();
    }
    info
}

/// Clients know architectures by the names that Go gives them.
fn go_arch(arch: &'static str) -> &'static str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;

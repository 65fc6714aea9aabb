//! `/healthz`, `/livez`, `/readyz` and `/version`.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::body::Body;
use super::query::Query;
use super::{Handler, respond};

/// Whether a path asks for the server's health.
pub(super) fn is_check(path: &str) -> bool {
    matches!(path.trim_end_matches('/'), "/healthz" | "/livez" | "/readyz")
}

impl Handler {
    /// A server that runs is alive; it is ready while it takes requests.
    pub(super) fn health(&self, endpoint: &str, query: &Query) -> Response<Body> {
        let name = endpoint.trim_start_matches('/');
        let checks = [("ping", true), ("log", true), ("shutdown", !self.stop.is_cancelled())];
        let excluded: Vec<&str> = query.all("exclude").collect();
        let checks = checks
            .iter()
            .filter(|(check, _)| !excluded.contains(check) && (name == "readyz" || *check != "shutdown"));
        let mut report = String::new();
        let mut fine = true;
        for (check, passed) in checks {
            fine &= passed;
            report.push_str(&match passed {
                true => format!("[+]{check} ok\n"),
                false => format!("[-]{check} failed: reason withheld\n"),
            });
        }
        if fine && query.get("verbose").is_none() {
            return respond::text(StatusCode::OK, "ok");
        }
        report.push_str(&format!("{name} check {}\n", if fine { "passed" } else { "failed" }));
        respond::text(if fine { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }, report)
    }
}

/// The version of the API that is served, as `version.Info`.
pub(super) fn version() -> Value {
    let commit = option_env!("TIPHYS_COMMIT").unwrap_or("");
    json!({
        "major": "1", "minor": "37", "emulationMajor": "1", "emulationMinor": "37",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
        "gitVersion": concat!("v1.37.0+tiphys-", env!("CARGO_PKG_VERSION")),
        "gitCommit": commit, "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "rust", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, go_arch(std::env::consts::ARCH)),
    })
}

/// Clients know architectures by the names that Go gives them.
fn go_arch(arch: &'static str) -> &'static str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

//! One try of a probe.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tiphys_cri::v1;
use tokio::net::TcpStream;

use super::{Outcome, grpc, http};
use crate::observed::ContainerId;

const PROBE: &str = "probe";
const HOOK: &str = "lifecycle";
/// The most of an answer that a message quotes.
const MAX_QUOTE: usize = 1024;

/// Where a container is reached.
#[derive(Clone, Debug)]
pub struct Target {
    /// The runtime, for commands.
    pub cri: tiphys_cri::Client,
    /// The container.
    pub container: ContainerId,
    /// The pod's address.
    pub ip: String,
}

/// A request by HTTP, with its port resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// Whether by TLS; certificates are not verified.
    pub tls: bool,
    /// Another host than the pod.
    pub host: Option<String>,
    /// The port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Headers beside the usual, or in their place.
    pub headers: Vec<(String, String)>,
    /// `probe` or `lifecycle`: how it introduces itself.
    pub purpose: &'static str,
}

/// What to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    /// Run a command in the container.
    Exec(Vec<String>),
    /// Ask by HTTP. To a hook every answer is one; to a probe its status matters.
    Http(HttpRequest),
    /// Open a connection.
    Tcp {
        /// Another host than the pod.
        host: Option<String>,
        /// The port.
        port: u16,
    },
    /// Ask by grpc.health.v1.
    Grpc {
        /// The port.
        port: u16,
        /// The service that is asked about.
        service: String,
    },
    /// Wait (hooks only).
    Sleep(Duration),
    /// The spec names none that can be tried.
    Invalid(String),
}

/// A port by number or by the name of one of the container's.
fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(n) => *n,
        IntOrString::String(name) => {
            match container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name)) {
                Some(port) => port.container_port,
                None => name.parse().map_err(|_| format!("couldn't find port: \"{name}\""))?,
            }
        }
    };
    u16::try_from(number).ok().filter(|n| *n > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

fn http_request(container: &Container, action: &HTTPGetAction, purpose: &'static str) -> Handler {
    let port = match port(container, &action.port) {
        Ok(port) => port,
        Err(message) => return Handler::Invalid(message),
    };
    let path = action.path.clone().unwrap_or_default();
    Handler::Http(HttpRequest {
        tls: action.scheme.as_deref() == Some("HTTPS"),
        host: action.host.clone().filter(|h| !h.is_empty()),
        port,
        path: if path.starts_with('/') { path } else { format!("/{path}") },
        headers: action.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect(),
        purpose,
    })
}

impl Handler {
    /// A probe's.
    pub fn of_probe(container: &Container, probe: &Probe) -> Self {
        if let Some(exec) = &probe.exec {
            Self::Exec(exec.command.clone().unwrap_or_default())
        } else if let Some(action) = &probe.http_get {
            http_request(container, action, PROBE)
        } else if let Some(action) = &probe.tcp_socket {
            match port(container, &action.port) {
                Ok(port) => Self::Tcp { host: action.host.clone().filter(|h| !h.is_empty()), port },
                Err(message) => Self::Invalid(message),
            }
        } else if let Some(action) = &probe.grpc {
            match u16::try_from(action.port) {
                Ok(port) => Self::Grpc { port, service: action.service.clone().unwrap_or_default() },
                Err(_) => Self::Invalid(format!("invalid port number: {}", action.port)),
            }
        } else {
            Self::Invalid("missing probe handler".to_owned())
        }
    }

    /// A lifecycle hook's.
    pub fn of_hook(container: &Container, hook: &LifecycleHandler) -> Self {
        if let Some(exec) = &hook.exec {
            Self::Exec(exec.command.clone().unwrap_or_default())
        } else if let Some(action) = &hook.http_get {
            http_request(container, action, HOOK)
        } else if let Some(sleep) = &hook.sleep {
            Self::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0)))
        } else {
            Self::Invalid("invalid handler: &LifecycleHandler without an action".to_owned())
        }
    }

    /// Tries once, for at most `timeout`.
    pub async fn attempt(&self, target: &Target, timeout: Duration) -> Outcome {
        match self {
            Self::Exec(command) => exec(target, command, timeout).await,
            Self::Http(request) => {
                let host = request.host.as_deref().unwrap_or(&target.ip);
                match tokio::time::timeout(timeout, http::get(request, host)).await {
                    Err(_) => Outcome::Failure(format!(
                        "Get \"{}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                        http::url(request, host)
                    )),
                    Ok(Err(error)) => {
                        Outcome::Failure(format!("Get \"{}\": {error}", http::url(request, host)))
                    }
                    Ok(Ok(_)) if request.purpose == HOOK => Outcome::Success,
                    Ok(Ok(reply)) => match reply.status {
                        200..300 => Outcome::Success,
                        // A redirect to elsewhere is an answer, if a doubtful one.
                        300..400 => Outcome::Warning(format!(
                            "Probe terminated redirects, Response body: {}",
                            reply.body
                        )),
                        status => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
                    },
                }
            }
            Self::Tcp { host, port } => {
                let host = host.as_deref().unwrap_or(&target.ip);
                let shown = http::authority(host, *port);
                match tokio::time::timeout(timeout, TcpStream::connect((host, *port))).await {
                    Err(_) => Outcome::Failure(format!("dial tcp {shown}: i/o timeout")),
                    Ok(Err(error)) => {
                        Outcome::Failure(format!("dial tcp {shown}: connect: {}", http::plain(&error)))
                    }
                    Ok(Ok(_)) => Outcome::Success,
                }
            }
            Self::Grpc { port, service } => grpc::check(&target.ip, *port, service, timeout).await,
            Self::Sleep(duration) => {
                tokio::time::sleep(*duration).await;
                Outcome::Success
            }
            Self::Invalid(message) => Outcome::Unknown(message.clone()),
        }
    }
}

async fn exec(target: &Target, command: &[String], timeout: Duration) -> Outcome {
    let request = v1::ExecSyncRequest {
        container_id: target.container.0.clone(),
        cmd: command.to_vec(),
        timeout: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX).max(1),
    };
    // The runtime keeps the time; the margin is for one that doesn't.
    let margin = timeout + Duration::from_secs(5);
    let answer = tokio::time::timeout(margin, target.cri.runtime().exec_sync(request)).await;
    let seconds = timeout.as_secs();
    let late = || {
        Outcome::Failure(format!("command timed out: \"{}\" timed out after {seconds}s", command.join(" ")))
    };
    match answer {
        Err(_) => late(),
        Ok(Err(status)) if status.code() == tonic::Code::DeadlineExceeded => late(),
        Ok(Err(status)) => Outcome::Unknown(status.message().to_owned()),
        Ok(Ok(response)) => {
            let response = response.into_inner();
            if response.exit_code == 0 {
                return Outcome::Success;
            }
            let mut output = response.stdout.to_vec();
            output.extend_from_slice(&response.stderr);
            output.truncate(MAX_QUOTE);
            Outcome::Failure(String::from_utf8_lossy(&output).into_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_found_by_name() {
        let container: Container =
            serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}))
                .unwrap();
        let handler = |probe: serde_json::Value| {
            Handler::of_probe(&container, &serde_json::from_value(probe).expect("a probe"))
        };
        let Handler::Http(request) = handler(json!({"httpGet": {"port": "web", "path": "healthz"}})) else {
            panic!()
        };
        assert_eq!((request.port, request.path.as_str()), (8080, "/healthz"));
        assert_eq!(handler(json!({"tcpSocket": {"port": 9}})), Handler::Tcp { host: None, port: 9 });
        assert!(matches!(handler(json!({"tcpSocket": {"port": "none"}})), Handler::Invalid(_)));
        assert!(matches!(handler(json!({"tcpSocket": {"port": 70000}})), Handler::Invalid(_)));
        assert!(matches!(handler(json!({})), Handler::Invalid(_)));
    }
}

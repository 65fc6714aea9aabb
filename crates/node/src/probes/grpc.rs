//! grpc.health.v1, as much of it as a probe needs (KEP-2727).

use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Endpoint;

use super::Outcome;
use super::http::authority;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const NAMES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: i32 = 1;

/// Asks once, without encryption. What is not answered by the end of `timeout` has failed.
pub(super) async fn check(ip: &str, port: u16, service: &str, timeout: Duration) -> Outcome {
    let until = Instant::now() + timeout;
    let shown = authority(ip, port);
    let seconds = timeout.as_secs();
    let endpoint = Endpoint::from_shared(format!("http://{shown}"))
        .and_then(|endpoint| endpoint.user_agent("kube-probe/1.37"));
    let endpoint = match endpoint {
        Ok(endpoint) => endpoint,
        Err(error) => return Outcome::Unknown(error.to_string()),
    };
    let channel = match timeout_at(until, endpoint.connect()).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => {
            return Outcome::Failure(format!("error: failed to connect service at {shown:?}: {error}"));
        }
        Err(_) => {
            return Outcome::Failure(format!(
                "timeout: failed to connect service {shown:?} within {seconds}s: context deadline exceeded"
            ));
        }
    };
    match timeout_at(until, ask(channel, service)).await {
        Err(_) => Outcome::Failure(format!("timeout: health rpc did not complete within {seconds}s")),
        Ok(Ok(SERVING)) => Outcome::Success,
        Ok(Ok(status)) => {
            let name = usize::try_from(status).ok().and_then(|s| NAMES.get(s)).unwrap_or(&NAMES[0]);
            Outcome::Failure(format!("service unhealthy (responded with {name:?})"))
        }
        Ok(Err(status)) if status.code() == tonic::Code::Unimplemented => Outcome::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        )),
        Ok(Err(status)) => Outcome::Failure(format!(
            "error: health rpc probe failed: rpc error: code = {:?} desc = {}",
            status.code(),
            status.message()
        )),
    }
}

async fn ask(channel: tonic::transport::Channel, service: &str) -> Result<i32, tonic::Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = tonic::Request::new(HealthCheckRequest { service: service.to_owned() });
    Ok(client.unary(request, path, codec).await?.into_inner().status)
}

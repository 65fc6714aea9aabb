//! grpc.health.v1, as much of it as a probe needs.

use http::uri::PathAndQuery;
use tonic::transport::Endpoint;

use super::Outcome;

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

/// Asks once.
pub(super) async fn check(ip: &str, port: u16, service: &str) -> Outcome {
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let endpoint = match Endpoint::from_shared(format!("http://{host}:{port}")) {
        Ok(endpoint) => endpoint,
        Err(error) => return Outcome::Unknown(error.to_string()),
    };
    let channel = match endpoint.connect().await {
        Ok(channel) => channel,
        Err(error) => {
            return Outcome::Failure(format!("error: failed to connect service {host}:{port}: {error}"));
        }
    };
    let mut client = tonic::client::Grpc::new(channel);
    if let Err(error) = client.ready().await {
        return Outcome::Failure(format!("error: failed to connect service {host}:{port}: {error}"));
    }
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = tonic::Request::new(HealthCheckRequest { service: service.to_owned() });
    match client.unary(request, path, codec).await {
        Ok(response) => match response.into_inner().status {
            SERVING => Outcome::Success,
            status => {
                let name = usize::try_from(status).ok().and_then(|s| NAMES.get(s)).unwrap_or(&NAMES[0]);
                Outcome::Failure(format!("service unhealthy (responded with \"{name}\")"))
            }
        },
        Err(status) if status.code() == tonic::Code::Unimplemented => Outcome::Failure(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
                .to_owned(),
        ),
        Err(status) => Outcome::Failure(format!("error: health rpc probe failed: {}", status.message())),
    }
}

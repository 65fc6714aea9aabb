//! Requests that other API servers answer.

use std::time::Duration;

use futures::StreamExt;
use http::header;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use tiphys_api::status::{Reason, Status};

use super::body::{Body, RequestBody};
use super::record::Remote;
use super::{Asked, Handler, not_here, respond};
use crate::aggregation::{own, vouch};
use crate::node_proxy;

/// The head of an answer is there by then.
const PATIENCE: Duration = Duration::from_secs(60);

impl Handler {
    /// Hands a request on to the server that answers this path, if there is one.
    pub(super) async fn aggregated_path(
        &self,
        path: &str,
        asked: Asked,
        body: RequestBody,
    ) -> Result<Response<Body>, Status> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match parts.as_slice() {
            ["apis", group, version] if self.aggregation.is_own(group, version) => {
                Ok(respond::json(StatusCode::OK, &own::resources(version)))
            }
            ["apis", group, version] | ["openapi", "v3", "apis", group, version] => {
                self.aggregated(group, version, asked, body).await
            }
            _ => Err(not_here()),
        }
    }

    /// Hands a request on to the server of a group and version, if there is one.
    pub(super) async fn aggregated(
        &self,
        group: &str,
        version: &str,
        mut asked: Asked,
        body: RequestBody,
    ) -> Result<Response<Body>, Status> {
        let backend = self.aggregation.route(group, version).ok_or_else(not_here)?;
        if !backend.available {
            return Ok(respond::text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable\n"));
        }
        let endpoint = backend.endpoint.as_ref().map_err(Status::internal)?;
        let unreachable = |why: &dyn std::fmt::Display| {
            Status::new(Reason::ServiceUnavailable, format!("error trying to reach service: {why}"))
        };
        let path = asked.head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(body);
        *request.method_mut() = asked.head.method.clone();
        *request.uri_mut() = path.parse().map_err(|_| Status::bad_request("the path is no URL"))?;
        *request.headers_mut() = node_proxy::handed_on(&asked.head.headers);
        vouch(request.headers_mut(), &asked.user);
        request.headers_mut().insert("audit-id", asked.audit_id.clone());
        Remote::tell(&asked.head, request.headers_mut());
        if node_proxy::is_upgrade(&asked.head.headers) {
            let host = HeaderValue::from_str(endpoint.authority()).map_err(Status::internal)?;
            request.headers_mut().insert(header::HOST, host);
            let client = asked.head.extensions.remove::<OnUpgrade>();
            let stream = endpoint.dial(PATIENCE).await.map_err(|e| unreachable(&e))?;
            let answer =
                node_proxy::forward(endpoint.authority(), stream, request, client, self.stop.clone()).await;
            return answer.map_err(|e| unreachable(&e));
        }
        let answer = endpoint.send(request, PATIENCE).await.map_err(|e| unreachable(&e))?;
        let (mut head, body) = answer.into_parts();
        node_proxy::handed_back(&mut head.headers);
        let pieces = body.into_data_stream().map(|piece| piece.map_err(Into::into));
        Ok(Response::from_parts(head, Body::stream(pieces.take_until(self.stop.clone().cancelled_owned()))))
    }
}

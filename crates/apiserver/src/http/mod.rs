//! From a connection to an answer: who asks, whether that is permitted, and what the answer looks like.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use http::header;
use http::{HeaderValue, Method, Request, Response, StatusCode, request::Parts};
use rustls::pki_types::CertificateDer;
use tiphys_api::decode::FieldValidation;
use tiphys_api::selector::FieldSelector;
use tiphys_api::status::{Details, Reason, Status};
use tokio_util::sync::CancellationToken;

use crate::aggregation::Aggregation;
use crate::audit::{Annotations, Auditor};
use crate::authn::{self, Connection};
use crate::authz;
use crate::fairness::Fairness;
use crate::identity::Identity;
use crate::library::Library;
use crate::metrics::{Metrics, Outcome};
use crate::node_proxy::Nodes;
use crate::registry::{Registry, Warnings};
use crate::security::Security;
use crate::trace::{self, Tracer};
use crate::usage::Usage;

mod aggregated;
mod attend;
pub mod body;
mod components;
mod connect;
mod dialect;
mod documents;
mod encode;
mod eviction;
mod exposed;
mod gather;
mod health;
mod history;
mod links;
pub mod listen;
mod load;
mod negotiate;
mod options;
mod patch;
mod post;
mod query;
mod record;
mod request_info;
mod resource;
mod respond;
mod scale;
mod selection;
mod stream;
mod usage;
mod websocket;
mod why;

use body::{Body, RequestBody};
use load::Class;
use query::Query;
use record::Record;
use request_info::{ResourceRequest, Target, Verb};

/// A request that is no watch or stream is answered by then: its body read, its work done.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers requests, wherever they come from.
pub struct Handler {
    registry: Arc<Registry>,
    security: Arc<Security>,
    nodes: Arc<Nodes>,
    aggregation: Arc<Aggregation>,
    usage: Arc<Usage>,
    metrics: Arc<Metrics>,
    auditor: Arc<Auditor>,
    tracer: Tracer,
    fairness: Arc<Fairness>,
    library: Library,
    /// Ends watches and other long answers.
    stop: CancellationToken,
}

/// A request past authentication.
struct Asked {
    user: Identity,
    head: Parts,
    query: Query,
    /// The kind of the options in the query.
    options: &'static str,
    warnings: Arc<Warnings>,
    annotations: Annotations,
    audit_id: HeaderValue,
}

impl Asked {
    /// How strictly the client wants its body to be read.
    fn validation(&self) -> Result<FieldValidation, Status> {
        options::field_validation(self.options, &self.query)
    }
}

impl Handler {
    pub(crate) fn new(
        registry: Arc<Registry>,
        security: Arc<Security>,
        nodes: Arc<Nodes>,
        aggregation: Arc<Aggregation>,
        (auditor, tracer): (Arc<Auditor>, Tracer),
        fairness: Arc<Fairness>,
        stop: CancellationToken,
    ) -> Self {
        let usage = Arc::new(Usage::new(Arc::clone(&nodes), Arc::clone(registry.cache())));
        usage.run(&stop);
        let metrics = Metrics::new();
        let library = Library::default();
        Self {
            registry,
            security,
            nodes,
            aggregation,
            usage,
            metrics,
            auditor,
            tracer,
            fairness,
            library,
            stop,
        }
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    #[cfg(test)]
    pub(crate) fn aggregation(&self) -> &Aggregation {
        &self.aggregation
    }

    /// Judges the certificates that the client of a new connection showed.
    fn connection(&self, chain: Option<&[CertificateDer<'_>]>) -> Connection {
        self.security.authenticator().connection(chain)
    }

    /// Answers a request. Whatever goes wrong is an answer, too.
    pub async fn handle(&self, request: Request<RequestBody>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let accept = head.headers.get(header::ACCEPT).cloned();
        let is_head = head.method == Method::HEAD;
        let mut record = Record::new(&self.metrics, &head.headers);
        let trace = self.tracer.begin(&head);
        let warnings = Arc::new(Warnings::default());
        let answered = {
            let answer = std::pin::pin!(unpanicked(self.answer(head, body, &warnings, &mut record)));
            trace::within(trace.clone(), answer).await
        };
        let answer = match answered {
            Some(answer) => answer,
            None => {
                record.panicked();
                Err(Status::internal("the request's handler failed"))
            }
        };
        let mut response = answer.unwrap_or_else(|status| {
            record.refused(&status);
            respond::error(&status, accept)
        });
        respond::warn(&mut response, &warnings.take());
        if is_head {
            respond::without_body(&mut response);
        }
        // Who has not proven who it is gets nothing told.
        if let Some(trace) = trace.filter(|_| response.status() != StatusCode::UNAUTHORIZED) {
            self.tracer.end(&trace, response.status());
        }
        record.answered(response)
    }

    /// The way of a request, step by step; each may be its last.
    async fn answer(
        &self,
        mut head: Parts,
        body: RequestBody,
        warnings: &Arc<Warnings>,
        record: &mut Record,
    ) -> Result<Response<Body>, Status> {
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let target = request_info::parse(&head.method, head.uri.path(), &query).map_err(|e| match e {
            request_info::Error::Method => method_not_allowed(),
            other => Status::bad_request(other.to_string()),
        })?;
        let class = load::class(&head.method, &target);
        record.asks(&self.registry.kinds(), (&head.method, &head.headers), (&target, &query), class);
        let selected = selected_name(&target, &query);
        let (verb, about) = words(&head.method, &target, &query, &selected);
        trace::names(verb, &about);
        let user = self.authenticate(&mut head).await;
        record.audit(&self.auditor, &head, user.as_ref().ok(), verb, &about);
        let user = self.impersonate(user?, &mut head).await?;
        record.acts_as(&user);
        let _seat = match load::seats(class, &target, &query, &self.registry) {
            Some(seats) => Some(record.admitted(self.fairness.enter(&user, verb, &about, seats).await)?),
            None => None,
        };
        self.permit(&user, verb, &about, record.annotations()).await?;
        let body = record.reads(class, &head.headers, body).await?;
        let patience = match class {
            Class::Long => None,
            Class::Read | Class::Write => Some(options::patience(query.text("timeout"))?.min(PATIENCE)),
        };
        let options = match &target {
            Target::Resource(resource) => resource.verb.options(),
            Target::Path(_) => Verb::Get.options(),
        };
        let (warnings, annotations) = (Arc::clone(warnings), record.annotations().clone());
        let audit_id = record.audit_id().clone();
        let asked = Asked { user, head, query, options, warnings, annotations, audit_id };
        let answer = async {
            match target {
                Target::Resource(resource) => self.resource(resource, asked, body).await,
                Target::Path(path) => self.path(&path, asked, body).await,
            }
        };
        match patience {
            None => answer.await,
            Some(patience) => {
                tokio::time::timeout(patience, answer).await.unwrap_or_else(|_| Err(too_slow()))
            }
        }
    }

    /// Who asks.
    async fn authenticate(&self, head: &mut Parts) -> Result<Identity, Status> {
        Ok(match (head.extensions.remove::<Identity>(), head.extensions.get::<Connection>()) {
            (Some(component), _) => component,
            (None, Some(connection)) => {
                let begun = Instant::now();
                let authenticator = self.security.authenticator();
                let user = authenticator.authenticate(connection, &head.headers, head.uri.path()).await;
                let outcome = if user.is_ok() { Outcome::Authenticated } else { Outcome::Unauthenticated };
                self.metrics.access.ended(outcome, begun.elapsed());
                user?
            }
            (None, None) => return Err(authn::Unauthenticated::NoCredentials.into()),
        })
    }

    /// Whom the user asks to be taken for. What was said about identities ends here.
    async fn impersonate(&self, user: Identity, head: &mut Parts) -> Result<Identity, Status> {
        let user = authn::impersonate(self.security.authorizer(), user, &head.headers).await?;
        authn::strip_impersonation(&mut head.headers);
        head.headers.remove(header::AUTHORIZATION);
        Ok(user)
    }

    /// Whether the user may do what the request asks.
    async fn permit(
        &self,
        user: &Identity,
        verb: &str,
        target: &authz::Target<'_>,
        annotations: &Annotations,
    ) -> Result<(), Status> {
        let attributes = authz::Attributes { user, verb, target: target.clone() };
        let begun = Instant::now();
        let decision = self.security.authorizer().authorize(&attributes).await;
        let outcome = match &decision {
            authz::Decision::Allow { .. } => Outcome::Allowed,
            authz::Decision::Deny { .. } => Outcome::Denied,
            authz::Decision::NoOpinion { .. } => Outcome::NoOpinion,
            authz::Decision::Failed { .. } => Outcome::Failed,
        };
        self.metrics.access.ended(outcome, begun.elapsed());
        let (word, reason, refused) = match decision {
            authz::Decision::Allow { reason } => ("allow", reason, None),
            authz::Decision::Deny { reason } | authz::Decision::NoOpinion { reason } => {
                let refused = attributes.forbidden(&reason);
                ("forbid", reason, Some(refused))
            }
            authz::Decision::Failed { error, .. } => {
                annotations.add("authorization.k8s.io/reason", || "internal error");
                return Err(Status::internal(error));
            }
        };
        annotations.add("authorization.k8s.io/decision", || word);
        annotations.add("authorization.k8s.io/reason", || reason);
        refused.map_or(Ok(()), Err)
    }

    /// Answers what is not about a resource.
    async fn path(&self, path: &str, asked: Asked, body: RequestBody) -> Result<Response<Body>, Status> {
        let trimmed = path.trim_end_matches('/');
        let reads = matches!(asked.head.method, Method::GET | Method::HEAD);
        match trimmed {
            _ if reads && health::is_check(trimmed) => self.health(trimmed, &asked.query).await,
            "/metrics" if reads => Ok(self.exposed(&asked.head.headers).await),
            "/metrics/slis" if reads => Ok(self.exposed_checks(&asked.head.headers)),
            "/version" if reads => Ok(respond::json(StatusCode::OK, &health::version())),
            _ if reads => match self.security.document(trimmed, &server(&asked.head)) {
                Some(document) => Ok(respond::json(StatusCode::OK, &document)),
                None => match self.document(trimmed, &asked).await? {
                    Some(document) => Ok(document),
                    None => self.aggregated_path(trimmed, asked, body).await,
                },
            },
            "/version" | "/api/v1" => Err(method_not_allowed()),
            _ => self.aggregated_path(trimmed, asked, body).await,
        }
    }
}

/// What a request does, and to what, as permissions name both.
fn words<'a>(
    method: &Method,
    target: &'a Target,
    query: &'a Query,
    selected: &'a Option<String>,
) -> (&'static str, authz::Target<'a>) {
    match target {
        Target::Resource(r) => (resource::permission(r), authorized_target(r, query, selected)),
        Target::Path(path) => (method_verb(method), authz::Target::Path(path)),
    }
}

/// A method as permissions on paths name it. Those that nobody can be permitted have one name.
fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        Method::TRACE => "trace",
        Method::CONNECT => "connect",
        _ => "unknown",
    }
}

/// The one object that a list or watch selects by its name, which is then what permission is asked for.
fn selected_name(target: &Target, query: &Query) -> Option<String> {
    let Target::Resource(r) = target else { return None };
    let selector = query.text("fieldSelector");
    if !matches!(r.verb, Verb::List | Verb::Watch) || !r.name.is_empty() || selector.is_empty() {
        return None;
    }
    let name = FieldSelector::parse(selector).ok()?.exact("metadata.name")?.to_owned();
    (!matches!(&*name, "." | "..") && !name.contains(['/', '%'])).then_some(name)
}

fn authorized_target<'a>(
    r: &'a ResourceRequest,
    query: &'a Query,
    selected: &'a Option<String>,
) -> authz::Target<'a> {
    let selects = matches!(r.verb, Verb::List | Verb::Watch | Verb::DeleteCollection) && !r.legacy_watch;
    authz::Target::Resource {
        group: &r.group,
        version: &r.version,
        resource: &r.resource,
        subresource: resource::permitted_by(r),
        // A namespace's own requests are permitted in it, too.
        namespace: if r.resource == "namespaces" && r.group.is_empty() { &r.name } else { &r.namespace },
        name: selected.as_deref().unwrap_or(&r.name),
        field_selector: if selects { query.text("fieldSelector") } else { "" },
        label_selector: if selects { query.text("labelSelector") } else { "" },
    }
}

/// Where the client has reached this server.
fn server(head: &Parts) -> String {
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| head.uri.authority().map(|authority| authority.as_str()));
    format!("https://{}", host.unwrap_or("localhost"))
}

/// What the handler answers; `None` if it panicked, which is the failure of one request.
async fn unpanicked<T>(answer: impl Future<Output = T>) -> Option<T> {
    let caught = AssertUnwindSafe(answer).catch_unwind().await;
    caught.inspect_err(|_| tracing::error!("a request made its handler panic")).ok()
}

/// 504 for what was not done in time.
fn too_slow() -> Status {
    Status::new(Reason::Timeout, "Timeout: request did not complete within the allotted timeout")
}

/// 404 for a path that leads nowhere.
fn not_here() -> Status {
    Status::new(Reason::NotFound, "the server could not find the requested resource")
        .with_details(Details::default())
}

fn method_not_allowed() -> Status {
    Status::new(Reason::MethodNotAllowed, "the server does not allow this method on the requested resource")
        .with_details(Details::default())
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;

#[cfg(test)]
mod permission_tests;
#[cfg(test)]
mod removed_tests;

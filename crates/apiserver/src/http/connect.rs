//! Subresources that are connections: a pod's log, exec, attach and portforward, and the proxies of nodes,
//! pods and Services.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::OnUpgrade;
use rand::Rng;
use serde_json::{Value, json};
use tiphys_api::status::{Reason, Status};
use tiphys_api::{field, meta};

use super::body::{Body, RequestBody};
use super::links::Links;
use super::query::Query;
use super::record::Remote;
use super::request_info::{ResourceRequest, Verb};
use super::resource::unbuilt;
use super::{Asked, Handler, respond, websocket};
use crate::cache::At;
use crate::node_proxy::{self, Error, Stream};
use crate::registry::{Call, cache_status};

/// The largest error message that is read from the other end, in bytes.
const MAX_ERROR: usize = 64 << 10;

fn proxy_status(error: Error) -> Status {
    match &error {
        Error::NoUpgrade => Status::bad_request(error.to_string()),
        Error::NoNode(node) => Status::not_found("", "nodes", node),
        Error::Slow(_) => Status::new(Reason::Timeout, error.to_string()),
        Error::Dial { .. } | Error::Ask { .. } | Error::NoAddress(_) => {
            Status::new(Reason::ServiceUnavailable, format!("error trying to reach service: {error}"))
        }
    }
}

impl Handler {
    pub(super) async fn connect(
        &self,
        r: &ResourceRequest,
        call: Call,
        asked: Asked,
        body: RequestBody,
    ) -> Result<Response<Body>, Status> {
        // A log is only read.
        if r.subresource != "log" {
            self.registry.admit_connect(&call, connect_options(r, &call, &asked.query)).await?;
        }
        match (&*r.resource, &*r.subresource) {
            ("pods", "log") if r.verb == Verb::Get => self.log(&call, asked).await,
            ("pods", "exec" | "attach" | "portforward") => self.attach(r, &call, asked).await,
            ("nodes" | "pods" | "services", "proxy") => self.proxy(r, &call, asked, body).await,
            _ => Err(unbuilt(&format!("{}/{}", call.kind.qualified_resource(), r.subresource))),
        }
    }

    async fn read(&self, call: &Call) -> Result<Value, Status> {
        let collection = self.registry.collection(&call.kind)?;
        let object = collection.read(At::Newest, &call.namespace, &call.name).await.map_err(cache_status)?;
        let object = object.ok_or_else(|| call.not_found())?;
        serde_json::from_slice(object.json()).map_err(Status::internal)
    }

    async fn log(&self, call: &Call, mut asked: Asked) -> Result<Response<Body>, Status> {
        let pod = self.read(call).await?;
        let container = container(&pod, asked.query.text("container"))?.to_owned();
        check_log_options(&call.name, &asked.query)?;
        let socket = websocket::asked_for(&mut asked.head)?;
        let node = meta::text(&pod, &["spec", "nodeName"]);
        if node.is_empty() {
            return Ok(respond::text(StatusCode::OK, ""));
        }
        let path = kubelet_path(
            &["containerLogs", &call.namespace, &call.name, &container],
            &log_query(&asked.query),
        );
        let stream = self.nodes.dial(node).await.map_err(proxy_status)?;
        let empty = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let mut request = Request::new(empty);
        *request.uri_mut() = path.parse().map_err(|_| Status::bad_request("the log's name is no URL"))?;
        request.headers_mut().insert(header::HOST, host(node));
        let answer = node_proxy::forward(node, stream, request, None, self.stop.clone()).await;
        let mut answer = checked(answer.map_err(proxy_status)?).await?;
        if let Some(socket) = socket {
            return socket.carry(answer);
        }
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(answer)
    }

    /// Streams into a pod: exec, attach, portforward.
    async fn attach(&self, r: &ResourceRequest, call: &Call, asked: Asked) -> Result<Response<Body>, Status> {
        let pod = self.read(call).await?;
        let node = meta::text(&pod, &["spec", "nodeName"]);
        if node.is_empty() {
            return Err(Status::bad_request(format!("pod {} does not have a host assigned", call.name)));
        }
        if !node_proxy::is_upgrade(&asked.head.headers) {
            return Err(Status::bad_request("Upgrade request required"));
        }
        let (namespace, name) = (call.namespace.as_str(), call.name.as_str());
        let path = if r.subresource == "portforward" {
            kubelet_path(&["portForward", namespace, name], &ports_query(&asked.query))
        } else {
            let container = container(&pod, asked.query.text("container"))?;
            kubelet_path(&[&r.subresource, namespace, name, container], &stream_query(&asked.query))
        };
        let stream = self.nodes.dial(node).await.map_err(proxy_status)?;
        let nothing = Empty::new().map_err(|never| match never {}).boxed_unsync();
        // A refusal is the kubelet's.
        checked(self.send(node, stream, &path, asked, nothing).await?).await
    }

    /// Hands a request on to a node, a pod or one of a Service's endpoints.
    async fn proxy(
        &self,
        r: &ResourceRequest,
        call: &Call,
        mut asked: Asked,
        body: RequestBody,
    ) -> Result<Response<Body>, Status> {
        let query = asked.head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let reads = matches!(asked.head.method, Method::GET | Method::HEAD);
        if r.rest.is_empty() && reads && !node_proxy::is_upgrade(&asked.head.headers) {
            // Relative links need the slash.
            return moved(&format!("{}/{query}", asked.head.uri.path()));
        }
        let part = split_name(&r.name)?;
        let (to, dialled) = if r.resource == "nodes" {
            (part.name.to_owned(), self.nodes.dial(part.name).await)
        } else {
            let address = match &*r.resource {
                "pods" => self.pod_address(call, &part).await?,
                _ => self.service_address(call, &part).await?,
            };
            (address.to_string(), part.dial(address).await)
        };
        let stream = dialled.map_err(proxy_status)?;
        let parts = if r.namespace.is_empty() { 6 } else { 8 };
        let prefix: Vec<&str> = asked.head.uri.path().split('/').take(parts).collect();
        let links = Links { prefix: prefix.join("/"), host: to.clone() };
        let path = encode_path(if r.rest.is_empty() { "/" } else { &r.rest });
        if let Ok(whole) = HeaderValue::try_from(format!("{}{path}", links.prefix)) {
            asked.head.headers.insert("x-forwarded-uri", whole);
        }
        // Links cannot be mended in what is compressed.
        asked.head.headers.remove(header::ACCEPT_ENCODING);
        let answer = self.send(&to, stream, &format!("{path}{query}"), asked, body).await?;
        Ok(links.mend(answer))
    }

    async fn send(
        &self,
        to: &str,
        stream: Box<dyn Stream>,
        path: &str,
        mut asked: Asked,
        body: RequestBody,
    ) -> Result<Response<Body>, Status> {
        let client = asked.head.extensions.remove::<OnUpgrade>();
        let mut request = Request::new(body);
        *request.method_mut() = asked.head.method.clone();
        *request.uri_mut() = path.parse().map_err(|_| Status::bad_request("the path is no URL"))?;
        *request.headers_mut() = node_proxy::handed_on(&asked.head.headers);
        request.headers_mut().insert(header::HOST, host(to));
        Remote::tell(&asked.head, request.headers_mut());
        if asked.head.method == Method::HEAD {
            request.headers_mut().remove(header::CONTENT_LENGTH);
        }
        node_proxy::forward(to, stream, request, client, self.stop.clone()).await.map_err(proxy_status)
    }

    /// The address of a pod and the port that its proxy's name asks for.
    async fn pod_address(&self, call: &Call, part: &Part<'_>) -> Result<SocketAddr, Status> {
        let pod = self.read(&Call { name: part.name.to_owned(), ..call.clone() }).await?;
        let named = |name: &str| {
            let ports = meta::items(&pod, &["spec", "containers"]).iter();
            ports.flat_map(|c| meta::items(c, &["ports"])).find(|p| p["name"] == name).cloned()
        };
        let port = match part.port {
            "" => meta::items(&pod, &["spec", "containers"])
                .iter()
                .flat_map(|c| meta::items(c, &["ports"]))
                .next()
                .and_then(|p| p["containerPort"].as_u64())
                .unwrap_or(80),
            text => match text.parse::<u64>() {
                Ok(number) => number,
                Err(_) => named(text).and_then(|p| p["containerPort"].as_u64()).unwrap_or(0),
            },
        };
        reachable(meta::text(&pod, &["status", "podIP"]), port)
    }

    /// The address of one of a Service's ready endpoints.
    async fn service_address(&self, call: &Call, part: &Part<'_>) -> Result<SocketAddr, Status> {
        let service = self.read(&Call { name: part.name.to_owned(), ..call.clone() }).await?;
        let ports = meta::items(&service, &["spec", "ports"]);
        let wanted = match part.port {
            "" => ports.first(),
            text => {
                let number = text.parse::<u64>().ok();
                ports.iter().find(|p| p["name"] == text || (number.is_some() && p["port"].as_u64() == number))
            }
        };
        let unavailable = |why: String| Status::new(Reason::ServiceUnavailable, why);
        let wanted = wanted.ok_or_else(|| {
            unavailable(format!("no service port {:?} found for service {:?}", part.port, part.name))
        })?;
        let name = wanted["name"].as_str().unwrap_or_default();
        let kinds = self.registry.kinds();
        let kind = kinds.resource("discovery.k8s.io", "v1", "endpointslices").ok_or_else(super::not_here)?;
        let slices = self.registry.collection(kind)?;
        let mut found = Vec::new();
        for slice in slices.iter(Some(&call.namespace)) {
            if slice.labels().get("kubernetes.io/service-name") != Some(part.name) {
                continue;
            }
            let slice: Value = serde_json::from_slice(slice.json()).map_err(Status::internal)?;
            let mut ports = meta::items(&slice, &["ports"]).iter();
            let Some(port) = ports.find(|p| p["name"].as_str().unwrap_or_default() == name) else { continue };
            let ready = meta::items(&slice, &["endpoints"]).iter();
            let ready = ready.filter(|e| e["conditions"]["ready"] != false);
            for endpoint in ready {
                let address = meta::items(endpoint, &["addresses"]).first().and_then(Value::as_str);
                found.extend(address.map(|a| (a.to_owned(), port["port"].as_u64().unwrap_or(0))));
            }
        }
        if found.is_empty() {
            return Err(unavailable(format!("no endpoints available for service {:?}", part.name)));
        }
        let (address, port) = &found[rand::rng().random_range(0..found.len())];
        reachable(address, *port)
    }
}

/// What a connection is asked for with, as the object that admission sees: `PodExecOptions` and its like.
fn connect_options(r: &ResourceRequest, call: &Call, query: &Query) -> Value {
    let speaks = call.kind.subresource(&r.subresource).and_then(|s| s.speaks.as_ref());
    let mut options = json!({"kind": speaks.map_or("", |s| &*s.kind), "apiVersion": "v1"});
    for flag in ["stdin", "stdout", "stderr", "tty"] {
        if query.flag(flag) {
            options[flag] = true.into();
        }
    }
    match &*r.subresource {
        "proxy" if !r.rest.is_empty() => options["path"] = r.rest.as_str().into(),
        "exec" | "attach" if !query.text("container").is_empty() => {
            options["container"] = query.text("container").into();
        }
        _ => {}
    }
    let command: Vec<&str> = query.all("command").collect();
    if !command.is_empty() {
        options["command"] = command.into();
    }
    let ports: Vec<u16> = query.all("ports").filter_map(|port| port.parse().ok()).collect();
    if !ports.is_empty() {
        options["ports"] = ports.into();
    }
    options
}

fn moved(to: &str) -> Result<Response<Body>, Status> {
    let to = HeaderValue::try_from(to).map_err(|_| Status::bad_request("the path is no URL"))?;
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    answer.headers_mut().insert(header::LOCATION, to);
    Ok(answer)
}

/// The parts of `[scheme:]name[:port]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part<'a> {
    name: &'a str,
    port: &'a str,
    tls: bool,
}

impl Part<'_> {
    async fn dial(&self, address: SocketAddr) -> Result<Box<dyn Stream>, Error> {
        if self.tls { node_proxy::dial_tls(address).await } else { node_proxy::dial_address(address).await }
    }
}

/// Takes a proxied object's name apart. Without a scheme it is plain HTTP.
fn split_name(text: &str) -> Result<Part<'_>, Status> {
    let parts: Vec<&str> = text.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        ["http" | "https", name] => (parts[0], *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return Err(Status::bad_request(format!("invalid proxy request {text:?}"))),
    };
    match scheme {
        "" | "http" => Ok(Part { name, port, tls: false }),
        "https" => Ok(Part { name, port, tls: true }),
        _ => Err(Status::bad_request(format!("invalid proxy request {text:?}"))),
    }
}

/// An address that may be proxied to: nothing on this host's own interfaces, nothing that is no single host.
fn reachable(address: &str, port: u64) -> Result<SocketAddr, Status> {
    let ip: IpAddr = address.parse().map_err(|_| Status::bad_request("address not allowed: it has no IP"))?;
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local {
        return Err(Status::bad_request("address not allowed"));
    }
    let port = u16::try_from(port).ok().filter(|p| *p > 0);
    port.map(|port| SocketAddr::new(ip, port)).ok_or_else(|| Status::bad_request("no such port"))
}

/// The container that is meant: the named one, or the only one.
fn container<'a>(pod: &'a Value, name: &'a str) -> Result<&'a str, Status> {
    let names = |field: &str| -> Vec<&str> {
        let list = meta::items(pod, &["spec", field]).iter();
        list.filter_map(|c| c["name"].as_str()).collect()
    };
    let (main, init, ephemeral) =
        (names("containers"), names("initContainers"), names("ephemeralContainers"));
    let pod = meta::name(pod);
    if !name.is_empty() {
        let known = [&main, &init, &ephemeral].iter().any(|list| list.contains(&name));
        return if known {
            Ok(name)
        } else {
            Err(Status::bad_request(format!("container {name} is not valid for pod {pod}")))
        };
    }
    match main.as_slice() {
        [only] => Ok(*only),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {pod}"))),
        _ => {
            let mut message = format!(
                "a container name must be specified for pod {pod}, choose one of: [{}]",
                main.join(" ")
            );
            for (list, kind) in [(&init, "init"), (&ephemeral, "ephemeral")] {
                if !list.is_empty() {
                    message.push_str(&format!(" or one of the {kind} containers: [{}]", list.join(" ")));
                }
            }
            Err(Status::bad_request(message))
        }
    }
}

fn check_log_options(pod: &str, query: &Query) -> Result<(), Status> {
    let mut wrong = Vec::new();
    for (field, least, why) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        if let Some(number) = query.integer(field)?.filter(|n| *n < least) {
            wrong.push(field::Error::invalid(&field::Path::new(field), number, why));
        }
    }
    if !query.text("sinceSeconds").is_empty() && !query.text("sinceTime").is_empty() {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        wrong.push(field::Error::forbidden(&field::Path::root(), why));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Status::invalid("", "PodLogOptions", pod, &wrong)) }
}

/// What of a log's query the kubelet is asked.
fn log_query(query: &Query) -> String {
    const PASSED: [&str; 8] = [
        "follow",
        "previous",
        "timestamps",
        "sinceSeconds",
        "sinceTime",
        "tailLines",
        "limitBytes",
        "stream",
    ];
    let mut words = form_urlencoded::Serializer::new(String::new());
    for name in PASSED {
        if let Some(value) = query.get(name).filter(|v| !v.is_empty()) {
            words.append_pair(name, value);
        }
    }
    words.finish()
}

fn ports_query(query: &Query) -> String {
    let mut words = form_urlencoded::Serializer::new(String::new());
    words.extend_pairs(query.all("ports").map(|port| ("port", port)));
    words.finish()
}

/// The kubelet's words for what exec and attach are asked with.
fn stream_query(query: &Query) -> String {
    let mut words = form_urlencoded::Serializer::new(String::new());
    for (said, word, default) in [
        ("stdin", "input", false),
        ("stdout", "output", true),
        ("stderr", "error", true),
        ("tty", "tty", false),
    ] {
        if query.optional_flag(said).unwrap_or(default) {
            words.append_pair(word, "1");
        }
    }
    words.extend_pairs(query.all("command").map(|word| ("command", word)));
    words.finish()
}

fn kubelet_path(parts: &[&str], query: &str) -> String {
    let path: String =
        parts.iter().map(|part| format!("/{}", encode_path(part).replace('/', "%2F"))).collect();
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

/// Percent-encodes what cannot stand in a path.
fn encode_path(path: &str) -> String {
    const PATH: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'#')
        .add(b'<')
        .add(b'>')
        .add(b'?')
        .add(b'%')
        .add(b'`')
        .add(b'{')
        .add(b'}');
    percent_encoding::utf8_percent_encode(path, PATH).to_string()
}

fn host(name: &str) -> HeaderValue {
    HeaderValue::from_str(name).unwrap_or_else(|_| HeaderValue::from_static("node"))
}

/// A kubelet's refusal as a `Status`; anything else passes.
async fn checked(answer: Response<Body>) -> Result<Response<Body>, Status> {
    let code = answer.status();
    if code.is_success() || code == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer);
    }
    let text = match Limited::new(answer.into_body(), MAX_ERROR).collect().await {
        Ok(text) => text.to_bytes(),
        Err(_) => Bytes::from_static(b"the node's answer could not be read"),
    };
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    Err(match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => Status::new(Reason::NotFound, text),
        StatusCode::METHOD_NOT_ALLOWED => Status::new(Reason::MethodNotAllowed, text),
        StatusCode::NOT_IMPLEMENTED => Status::new(Reason::NotImplemented, text),
        StatusCode::UNAUTHORIZED => Status::new(Reason::Unauthorized, text),
        StatusCode::FORBIDDEN => Status::new(Reason::Forbidden, text),
        _ => Status::internal(text),
    })
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;

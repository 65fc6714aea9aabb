//! Requests to resources.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::Value;
use tiphys_api::codec::protobuf;
use tiphys_api::field::{Error, Path};
use tiphys_api::kind::{Action, Kind, Subresource, Update, Verbs, api_version};
use tiphys_api::names;
use tiphys_api::status::{Reason, Status};

use super::body::{self, Body, RequestBody};
use super::dialect::Dialect;
use super::encode::{Include, ListMeta, View};
use super::history::HISTORY;
use super::negotiate::{self, Encoding, Offer};
use super::patch::{How, Patch};
use super::request_info::{ResourceRequest, Verb};
use super::why::WHY;
use super::{Asked, Handler, method_not_allowed, not_here, options, respond, stream};
use crate::authz;
use crate::cache::{At, Filter, ListOptions};
use crate::registry::{Call, DeleteOptions, Object, Registry, Updating, cache_status, objectmeta};

/// Subresources whose answers can go on for as long as the client likes.
pub(super) fn is_stream(subresource: &str) -> bool {
    matches!(subresource, "log" | "exec" | "attach" | "portforward" | "proxy")
}

/// The verb that a request needs permission for. Streams into a container are things that are made, however
/// the client's library asks for them.
pub(super) fn permission(r: &ResourceRequest) -> &'static str {
    match (&*r.resource, &*r.subresource) {
        ("pods", "exec" | "attach" | "portforward") => Verb::Create.as_str(),
        // To restore what an object was is to update it.
        (_, HISTORY | WHY) if r.verb == Verb::Create => Verb::Update.as_str(),
        _ => r.verb.as_str(),
    }
}

/// The subresource that a request needs permission to. What tells of an object is read by who may read the
/// object; who may write its status may say why it is so.
pub(super) fn permitted_by(r: &ResourceRequest) -> &str {
    match (&*r.subresource, r.verb) {
        (HISTORY, _) | (WHY, Verb::Get) => "",
        (WHY, _) => "status",
        (subresource, _) => subresource,
    }
}

/// Which objects of a collection a request is about.
pub(super) fn filter(call: &Call, asked: &Asked) -> Result<Filter, Status> {
    super::selection::parse(call, asked.query.text("labelSelector"), asked.query.text("fieldSelector"))
}

fn verbs(verb: Verb) -> Verbs {
    match verb {
        Verb::Get => Verbs::GET,
        Verb::List => Verbs::LIST,
        Verb::Watch => Verbs::WATCH,
        Verb::Create => Verbs::CREATE,
        Verb::Update => Verbs::UPDATE,
        Verb::Patch => Verbs::PATCH,
        Verb::Delete => Verbs::DELETE,
        Verb::DeleteCollection => Verbs::DELETE_COLLECTION,
    }
}

/// How an object is to be deleted, and whether only in play.
fn deletion(call: &Call, body: Option<&Value>, asked: &Asked) -> Result<(DeleteOptions, bool), Status> {
    let (mut options, dry_run) = options::delete(body, &asked.query)?;
    options.orphans = call.kind.orphans_by_default(&call.version);
    if let (None, Some(warning)) = (options.propagation, call.kind.orphaning_warning(&call.version)) {
        call.warnings.add(warning);
    }
    Ok((options, dry_run))
}

impl Handler {
    pub(super) async fn resource(
        &self,
        r: ResourceRequest,
        asked: Asked,
        body: RequestBody,
    ) -> Result<Response<Body>, Status> {
        let kinds = self.registry.kinds();
        let Some(kind) = kinds.resource(&r.group, &r.version, &r.resource) else {
            if self.aggregation.is_own(&r.group, &r.version) {
                return Box::pin(self.usage(&r, &asked)).await;
            }
            return Box::pin(self.aggregated(&r.group, &r.version, asked, body)).await;
        };
        if let Some(version) = kind.version(&r.version)
            && let Some(warning) = version.warning.as_deref()
        {
            asked.warnings.add(warning);
            self.deprecated(kind, &r, version.gone, &asked);
        }
        // Across all namespaces, objects can be listed and watched; each one is found only in its own.
        let across = kind.is_namespaced() && r.namespace.is_empty();
        let astray =
            if kind.is_namespaced() { across && !r.name.is_empty() } else { !r.namespace.is_empty() };
        // What cannot be listed is nowhere but in its namespaces.
        if astray || (across && !kind.verbs.contains(Verbs::LIST)) {
            return Err(not_here());
        }
        if let Some(wrong) = names::path_segment(&r.name, false).first() {
            return Err(Status::bad_request(format!("Name parameter invalid: {:?}: {wrong}", r.name)));
        }
        if r.legacy_watch && r.verb != Verb::Watch {
            return Err(method_not_allowed());
        }
        let in_scope = !across || matches!(r.verb, Verb::List | Verb::Watch);
        let call = Call {
            user: asked.user.clone(),
            kind: Arc::clone(kind),
            version: r.version.clone(),
            namespace: r.namespace.clone(),
            name: r.name.clone(),
            subresource: r.subresource.clone(),
            uninitialized: asked.query.flag("includeUninitialized"),
            dry_run: options::dry_run(asked.options, asked.query.all("dryRun"))?,
            is_patch: r.verb == Verb::Patch,
            field_manager: manager(&asked)?,
            warnings: Arc::clone(&asked.warnings),
            annotations: asked.annotations.clone(),
        };
        if r.subresource.is_empty() {
            if !kind.verbs.contains(verbs(r.verb))
                || (r.verb == Verb::Create && !r.name.is_empty())
                || (matches!(r.verb, Verb::Update | Verb::Patch) && r.name.is_empty())
                || !in_scope
            {
                return Err(method_not_allowed());
            }
            return self.object(r.verb, call, asked, body).await;
        }
        if r.subresource == HISTORY && kind.storage.is_some() {
            let call = Call { subresource: String::new(), ..call };
            return Box::pin(self.history(&r, call, asked, body)).await;
        }
        if r.subresource == WHY && kind.storage.is_some() {
            return Box::pin(self.why(&r, call, asked, body)).await;
        }
        let subresource = kind.subresource_in(&r.version, &r.subresource).ok_or_else(not_here)?.clone();
        if !subresource.verbs.contains(verbs(r.verb)) || !in_scope {
            return Err(method_not_allowed());
        }
        Box::pin(self.subresource(&r, &subresource, call, asked, body)).await
    }

    /// Notes that somebody still asks for a version that is going away.
    fn deprecated(&self, kind: &Kind, r: &ResourceRequest, gone: Option<u8>, asked: &Asked) {
        let release = gone.map(|minor| format!("1.{minor}")).unwrap_or_default();
        asked.annotations.add("k8s.io/deprecated", || "true");
        if gone.is_some() {
            asked.annotations.add("k8s.io/removed-release", || release.clone());
        }
        // Clients choose the word; one that the kind does not have is not counted apart.
        let known = kind.subresource(&r.subresource).map_or("", |_| &*r.subresource);
        self.metrics.deprecated([&r.group, &r.version, &r.resource, known, &release]);
    }

    /// Each verb's work lies in a box of its own, so that no request takes the memory of the largest.
    async fn object(
        &self,
        verb: Verb,
        call: Call,
        asked: Asked,
        body: RequestBody,
    ) -> Result<Response<Body>, Status> {
        match verb {
            Verb::Get | Verb::List if call.kind.storage.is_none() => {
                Box::pin(self.component_statuses(&call, &asked)).await
            }
            Verb::Get => self.get(&call, &asked).await,
            Verb::List => Box::pin(self.list(&call, &asked)).await,
            Verb::Watch => Box::pin(stream::watch(self, &call, &asked)).await,
            Verb::Create => Box::pin(self.create(call, asked, body)).await,
            Verb::Update => {
                let rules = call.kind.hooks.update;
                let create = call.kind.create_on_update;
                Box::pin(self.put(call, asked, body, rules, create)).await
            }
            Verb::Patch => {
                let rules = call.kind.hooks.update;
                Box::pin(self.patch(call, asked, body, rules)).await
            }
            Verb::Delete => Box::pin(self.delete(call, asked, body)).await,
            Verb::DeleteCollection => Box::pin(self.delete_collection(call, asked, body)).await,
        }
    }

    async fn subresource(
        &self,
        r: &ResourceRequest,
        subresource: &Subresource,
        call: Call,
        asked: Asked,
        body: RequestBody,
    ) -> Result<Response<Body>, Status> {
        match (&subresource.action, r.verb) {
            (Action::Update(_), Verb::Get) => self.get(&call, &asked).await,
            (Action::Update(rules), Verb::Update) => self.put(call, asked, body, *rules, false).await,
            (Action::Update(rules), Verb::Patch) => self.patch(call, asked, body, *rules).await,
            (Action::Scale(scale), _) => self.scale(r.verb, scale, call, asked, body).await,
            (Action::Post, _) => self.post(subresource, call, asked, body).await,
            (Action::Connect, _) => self.connect(r, call, asked, body).await,
            _ => Err(unbuilt(&format!("{}/{}", call.kind.qualified_resource(), subresource.name))),
        }
    }

    async fn get(&self, call: &Call, asked: &Asked) -> Result<Response<Body>, Status> {
        let view = self.view(call, asked, false)?;
        let at = At::get(asked.query.text("resourceVersion")).map_err(cache_status)?;
        let collection = self.registry.collection(&call.kind)?;
        let object = collection.read(at, &call.namespace, &call.name).await.map_err(cache_status)?;
        let visible = object.filter(|object| call.uninitialized || !object.is_uninitialized());
        let object = visible.ok_or_else(|| call.not_found())?;
        answer(&view, StatusCode::OK, object.json(), asked).await
    }

    async fn list(&self, call: &Call, asked: &Asked) -> Result<Response<Body>, Status> {
        let view = self.view(call, asked, false)?;
        options::list(Verb::List, &asked.query)?;
        let options = listing(call, asked)?;
        let page = self.registry.list(call, options).await?;
        let meta = ListMeta {
            resource_version: page.revision.to_string(),
            next: page.next.clone(),
            remaining: page.remaining,
        };
        let items = page.map(|object| object.json().clone());
        stream::list(view, meta, items, &asked.head.headers)
    }

    async fn create(&self, call: Call, asked: Asked, body: RequestBody) -> Result<Response<Body>, Status> {
        let view = self.view(&call, &asked, false)?;
        let dialect = Dialect::of(&call, asked.validation()?, self.registry.now())?;
        let object = dialect.read(&body::read(body).await?, encoding(&asked)?)?;
        if call.kind.storage.is_none() {
            let answer = self.review(&call, object).await?;
            let bytes = super::encode::value(&answer, view.accepted.encoding, view.accepted.pretty)?;
            return Ok(respond::whole(StatusCode::CREATED, view.content_type(), bytes, &asked.head.headers));
        }
        let Object { json } = self.registry.create(&call, dialect.written(None, object)).await?;
        let waits = call.uninitialized && is_uninitialized(&json);
        let code = if waits { StatusCode::ACCEPTED } else { StatusCode::CREATED };
        written(&view, code, &json, &asked.head.headers).await
    }

    async fn put(
        &self,
        call: Call,
        asked: Asked,
        body: RequestBody,
        rules: Update,
        create: bool,
    ) -> Result<Response<Body>, Status> {
        let view = self.view(&call, &asked, false)?;
        let dialect = Dialect::of(&call, asked.validation()?, self.registry.now())?;
        let mut object = dialect.read(&body::read(body).await?, encoding(&asked)?)?;
        // That it is another object comes before whether there is this one.
        objectmeta::has_name(&object, &call.name)?;
        objectmeta::place(&mut object, &call.namespace)?;
        let may_create = if create { self.may(&call, Verb::Create).await } else { Ok(()) };
        let mut make = |live: Option<&Value>| {
            if live.is_none() {
                may_create.clone()?;
            }
            Ok(dialect.written(live, object.clone()))
        };
        let updated = self.registry.update(&call, Updating { rules, create, make: &mut make }).await?;
        let code = if updated.created { StatusCode::CREATED } else { StatusCode::OK };
        written(&view, code, &updated.object.json, &asked.head.headers).await
    }

    async fn patch(
        &self,
        call: Call,
        asked: Asked,
        body: RequestBody,
        rules: Update,
    ) -> Result<Response<Body>, Status> {
        let view = self.view(&call, &asked, false)?;
        let dialect = Dialect::of(&call, asked.validation()?, self.registry.now())?;
        let patch = Patch::read(&asked.head.headers, &body::read(body).await?, &call.kind)?;
        let force = asked.query.optional_flag("force");
        let updated = if patch.how == How::Apply {
            if asked.query.text("fieldManager").is_empty() {
                let error = Error::required(&Path::new("fieldManager"), "is required for apply patch");
                return Err(options::invalid(asked.options, &[error]));
            }
            let config = dialect.check_config(&patch)?;
            let create = call.subresource.is_empty();
            let may_create = self.may(&call, Verb::Create).await;
            let mut make = |live: Option<&Value>| {
                if live.is_none() {
                    may_create.clone()?;
                }
                let mut object = dialect.applied(live, &config, force.unwrap_or(false))?;
                objectmeta::named(&mut object, &call.name)?;
                Ok(object)
            };
            self.registry.update(&call, Updating { rules, create, make: &mut make }).await?
        } else {
            if force.is_some() {
                let error = Error::forbidden(&Path::new("force"), "may not be specified for non-apply patch");
                return Err(options::invalid(asked.options, &[error]));
            }
            let mut make = |live: Option<&Value>| {
                let live = live.ok_or_else(|| call.not_found())?;
                let patched = dialect.patched(&patch, &dialect.spoken(live), dialect.target())?;
                Ok(dialect.written(Some(live), patched))
            };
            self.registry.update(&call, Updating { rules, create: false, make: &mut make }).await?
        };
        let code = if updated.created { StatusCode::CREATED } else { StatusCode::OK };
        written(&view, code, &updated.object.json, &asked.head.headers).await
    }

    /// Whether the user may do this, too, to what the request is about.
    pub(super) async fn may(&self, call: &Call, verb: Verb) -> Result<(), Status> {
        let target = authz::Target::Resource {
            group: &call.kind.group,
            version: &call.version,
            resource: &call.kind.resource,
            subresource: &call.subresource,
            namespace: &call.namespace,
            name: &call.name,
            field_selector: "",
            label_selector: "",
        };
        let attributes = authz::Attributes { user: &call.user, verb: verb.as_str(), target };
        authz::require(self.security.authorizer(), &attributes).await
    }

    async fn delete(
        &self,
        mut call: Call,
        asked: Asked,
        body: RequestBody,
    ) -> Result<Response<Body>, Status> {
        let view = self.view(&call, &asked, false)?;
        let body = read_options(body, &asked.head.headers).await?;
        let (options, dry_run) = deletion(&call, body.as_ref(), &asked)?;
        call.dry_run |= dry_run;
        let deleted = self.registry.delete(&call, &options).await?;
        if deleted.gone && !returns_deleted(&call.kind) {
            let value =
                super::encode::value(&deleted.status(&call), view.accepted.encoding, view.accepted.pretty)?;
            return Ok(respond::response(StatusCode::OK, view.content_type(), Body::Full(value)));
        }
        written(&view, StatusCode::OK, &deleted.object.json, &asked.head.headers).await
    }

    async fn delete_collection(
        &self,
        mut call: Call,
        asked: Asked,
        body: RequestBody,
    ) -> Result<Response<Body>, Status> {
        let view = self.view(&call, &asked, false)?;
        options::list(Verb::DeleteCollection, &asked.query)?;
        let mut list = listing(&call, &asked)?;
        list.filter.uninitialized = true;
        let body = read_options(body, &asked.head.headers).await?;
        let (options, dry_run) = deletion(&call, body.as_ref(), &asked)?;
        call.dry_run |= dry_run;
        let resource_version = self.registry.cache().revision().to_string();
        let deleted = self.registry.delete_collection(&call, &options, list).await?;
        let meta = ListMeta { resource_version, next: None, remaining: None };
        stream::list(view, meta, deleted.into_iter().map(|o| o.json), &asked.head.headers)
    }

    /// How the client wants to see objects of the call's kind.
    pub(super) fn view(&self, call: &Call, asked: &Asked, stream: bool) -> Result<View, Status> {
        let pretty = asked.query.optional_flag("pretty");
        let version = api_version(&call.kind.group, &call.version);
        // What is only asked has no metadata to show.
        let shapes = call.kind.verbs.contains(Verbs::GET);
        let offer = Offer { stream, shapes, protobuf: protobuf::knows(&version, &call.kind.kind) };
        let accepted = negotiate::accept(&asked.head.headers, pretty, offer)?;
        Ok(View {
            kind: Arc::clone(&call.kind),
            version: call.version.clone(),
            include: Include::parse(asked.query.text("includeObject"), accepted.shape)?,
            accepted,
            now: self.registry.now(),
            headless: false,
        })
    }
}

/// Which objects of a collection a request is about, of which time, and how many at most.
fn listing(call: &Call, asked: &Asked) -> Result<ListOptions, Status> {
    let query = &asked.query;
    let (version, next) = (query.text("resourceVersion"), query.text("continue"));
    // What need not be new comes whole.
    let whole = version == "0" && next.is_empty();
    let limit = query.integer("limit")?.and_then(|n| u64::try_from(n).ok()).filter(|_| !whole).unwrap_or(0);
    let at = At::list(version, query.text("resourceVersionMatch"), limit, next).map_err(cache_status)?;
    Ok(ListOptions { at, filter: filter(call, asked)?, limit })
}

/// Who owns the fields that a request sets: who says so, else the client's name.
fn manager(asked: &Asked) -> Result<String, Status> {
    const MAX: usize = 128;
    let said = options::field_manager(asked.options, &asked.query)?;
    if !said.is_empty() {
        return Ok(said.to_owned());
    }
    let agent = asked.head.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok());
    let name = agent.unwrap_or_default().split('/').next().unwrap_or_default();
    Ok(name.chars().filter(|c| !c.is_control()).take(MAX).collect())
}

/// The encoding of the request's body.
pub(super) fn encoding(asked: &Asked) -> Result<Encoding, Status> {
    negotiate::content_encoding(&asked.head.headers)
}

/// Reads the body of a delete, if there is one.
async fn read_options(body: RequestBody, headers: &http::HeaderMap) -> Result<Option<Value>, Status> {
    let bytes = body::read(body).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let parse = |json: &[u8]| {
        serde_json::from_slice(json)
            .map_err(|e| Status::bad_request(format!("couldn't get version/kind; json parse error: {e}")))
    };
    let options: Value = match negotiate::content_encoding(headers)? {
        Encoding::Json => parse(&bytes)?,
        Encoding::Yaml => parse(&super::dialect::yaml_to_json(&bytes)?)?,
        Encoding::Protobuf => protobuf::decode(&bytes, ("v1", "DeleteOptions"))?,
        Encoding::Cbor => super::dialect::cbor_to_value(&bytes)?,
    };
    Ok(Some(options))
}

async fn answer(
    view: &View,
    code: StatusCode,
    stored: &Bytes,
    asked: &Asked,
) -> Result<Response<Body>, Status> {
    written(view, code, stored, &asked.head.headers).await
}

async fn written(
    view: &View,
    code: StatusCode,
    stored: &Bytes,
    headers: &http::HeaderMap,
) -> Result<Response<Body>, Status> {
    if view.is_converted() {
        let shown = Registry::shown(&view.kind, &view.version, vec![stored.clone()]).await?;
        // One goes in, and one comes out.
        let shown = shown.into_iter().next().unwrap_or_default();
        return Ok(respond::whole(code, view.content_type(), view.object(&shown)?, headers));
    }
    Ok(respond::whole(code, view.content_type(), view.object(stored)?, headers))
}

/// Whether initializers have yet to see an object.
fn is_uninitialized(json: &[u8]) -> bool {
    serde_json::from_slice(json).is_ok_and(|object: Value| object["metadata"]["initializers"].is_object())
}

/// Kinds whose delete answers with what was deleted, as upstream's do.
fn returns_deleted(kind: &Kind) -> bool {
    const CORE: [&str; 8] = [
        "namespaces",
        "persistentvolumeclaims",
        "persistentvolumes",
        "pods",
        "podtemplates",
        "resourcequotas",
        "serviceaccounts",
        "services",
    ];
    const STORAGE: [&str; 4] = ["csidrivers", "csinodes", "storageclasses", "volumeattachments"];
    match &*kind.group {
        "" => CORE.contains(&&*kind.resource),
        "storage.k8s.io" => STORAGE.contains(&&*kind.resource),
        _ => false,
    }
}

pub(super) fn unbuilt(what: &str) -> Status {
    Status::new(Reason::NotImplemented, format!("{what} is not built yet"))
}

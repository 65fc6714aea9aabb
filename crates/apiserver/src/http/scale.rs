//! `scale`: an object's number of replicas, seen as an object of its own.

use http::{Response, StatusCode};
use serde_json::Value;
use tiphys_api::codec::protobuf;
use tiphys_api::convert;
use tiphys_api::decode::Target;
use tiphys_api::kind::{Kind, Scale};
use tiphys_api::status::Status;
use tiphys_api::table::SCALE;

use super::body::{self, Body, RequestBody};
use super::dialect::{self, Dialect};
use super::encode::Include;
use super::negotiate::{self, Offer};
use super::patch::Patch;
use super::request_info::Verb;
use super::resource::{encoding, unbuilt};
use super::{Asked, Handler, encode, respond};
use crate::cache::At;
use crate::registry::{Call, Updating, cache_status, objectmeta};

/// 404 for what has no scale because it is not there. Those of the core group were first scaled elsewhere.
fn no_scale(call: &Call) -> Status {
    let Kind { group, resource, custom, .. } = &*call.kind;
    match (custom, &**group) {
        (None, "") => Status::not_found("autoscaling", &format!("{resource}/scale"), &call.name),
        _ => call.not_found(),
    }
}

impl Handler {
    pub(super) async fn scale(
        &self,
        verb: Verb,
        scale: &Scale,
        call: Call,
        asked: Asked,
        body: RequestBody,
    ) -> Result<Response<Body>, Status> {
        let offer =
            Offer { stream: false, shapes: true, protobuf: protobuf::knows("autoscaling/v1", "Scale") };
        let accepted = negotiate::accept(&asked.head.headers, asked.query.optional_flag("pretty"), offer)?;
        let include = Include::parse(asked.query.text("includeObject"), accepted.shape)?;
        let target = Target::builtin("autoscaling", "v1", "Scale").ok_or_else(|| unbuilt("Scale"))?;
        let dialect = Dialect::of(&call, asked.validation()?, self.registry.now())?;
        let object = match verb {
            Verb::Get => {
                let at = At::get(asked.query.text("resourceVersion")).map_err(cache_status)?;
                let collection = self.registry.collection(&call.kind)?;
                let object = collection.read(at, &call.namespace, &call.name).await.map_err(cache_status)?;
                object.ok_or_else(|| no_scale(&call))?.json().clone()
            }
            Verb::Update => {
                let bytes = body::read(body).await?;
                let mut wanted =
                    dialect::read(&call, &target, &bytes, encoding(&asked)?, asked.validation()?)?;
                objectmeta::named(&mut wanted, &call.name)?;
                objectmeta::place(&mut wanted, &call.namespace)?;
                self.rescale(&call, scale, &dialect, &mut |_| Ok(wanted.clone())).await?
            }
            _ => {
                let patch = Patch::read(&asked.head.headers, &body::read(body).await?, &call.kind)?;
                let mut make = |now: Value| dialect.patched(&patch, &now, &target);
                self.rescale(&call, scale, &dialect, &mut make).await?
            }
        };
        let object: Value = serde_json::from_slice(&object).map_err(Status::internal)?;
        let scaled = convert::scale_of(scale, &object);
        let shown = encode::printed(&scaled, &SCALE, &accepted, include, self.registry.now())?;
        Ok(respond::response(StatusCode::OK, accepted.encoding.media_type(), Body::Full(shown)))
    }

    /// Writes the scale that `make` makes of what it is now.
    async fn rescale(
        &self,
        call: &Call,
        scale: &Scale,
        dialect: &Dialect<'_>,
        make: &mut (dyn FnMut(Value) -> Result<Value, Status> + Send),
    ) -> Result<bytes::Bytes, Status> {
        let rules = call.kind.hooks.update;
        let mut change = |live: Option<&Value>| {
            let live = live.ok_or_else(|| call.not_found())?;
            let wanted = make(convert::scale_of(scale, live))?;
            let errors = convert::validate_scale(&wanted);
            if !errors.is_empty() {
                return Err(Status::invalid("autoscaling", "Scale", &call.name, &errors));
            }
            let mut object = live.clone();
            convert::apply_scale(scale, &wanted, &mut object);
            Ok(dialect.written(Some(live), dialect.spoken(&object).into_owned()))
        };
        let updating = Updating { rules, create: false, make: &mut change };
        Ok(self.registry.update(call, updating).await?.object.json)
    }
}

//! Between what a client says in its own version and what is stored.

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use tiphys_api::codec::{cbor, protobuf, yaml};
use tiphys_api::convert;
use tiphys_api::decode::{self, Decoded, FieldValidation, Target};
use tiphys_api::kind::{Action, Kind, Kinds, api_version, split_api_version};
use tiphys_api::patch::apply::{self, Set, Types, Writer};
use tiphys_api::status::{Reason, Status};

use super::negotiate::Encoding;
use super::patch::Patch;
use crate::registry::Call;

/// The version and type that a call's objects are spoken in.
pub(super) struct Dialect<'a> {
    call: &'a Call,
    target: Target<'a>,
    validation: FieldValidation,
    now: Timestamp,
}

/// Fields that an endpoint does not let its callers own.
static STATUS: LazyLock<Set> = LazyLock::new(|| Set::of_fields(&[&["status"]]));
static SPEC: LazyLock<Set> = LazyLock::new(|| Set::of_fields(&[&["spec"]]));
static NOTHING: LazyLock<Set> = LazyLock::new(|| Set::of_fields(&[]));

/// The row in which another group shows the same stored objects. Only built-in kinds have such.
fn elsewhere(kind: &Kind, group: &str) -> Option<&'static Kind> {
    static BUILTIN: LazyLock<Kinds> = LazyLock::new(Kinds::builtin);
    let row = BUILTIN.group_resource(group, &kind.resource)?;
    (row.storage.is_some() && row.storage == kind.storage).then_some(&**row)
}

/// A body as JSON.
///
/// # Errors
/// 400 for what is no YAML.
pub(super) fn yaml_to_json(body: &[u8]) -> Result<Bytes, Status> {
    yaml::to_json(body).map(Bytes::from).map_err(|e| Status::bad_request(format!("yaml: {e}")))
}

/// The value of a body that is in CBOR.
///
/// # Errors
/// 400 for what is no CBOR.
pub(super) fn cbor_to_value(body: &[u8]) -> Result<Value, Status> {
    cbor::decode(body).map_err(|e| Status::bad_request(e.to_string()))
}

/// Reads an object of a type from a body in any encoding.
///
/// # Errors
/// 400 for what is no such object, 415 for an encoding that the type does not have.
pub(super) fn read(
    call: &Call,
    target: &Target<'_>,
    body: &Bytes,
    encoding: Encoding,
    validation: FieldValidation,
) -> Result<Value, Status> {
    let decoded = match encoding {
        Encoding::Json => decode::decode(target, body, validation)?,
        Encoding::Yaml => decode::decode(target, &yaml_to_json(body)?, validation)?,
        Encoding::Cbor => decode::decode_tree(target, cbor_to_value(body)?, validation)?,
        Encoding::Protobuf => {
            let default = api_version(target.group, target.version);
            decode::decode_tree(target, protobuf::decode(body, (&default, target.kind))?, validation)?
        }
    };
    for warning in decoded.warnings {
        call.warnings.add(warning);
    }
    Ok(decoded.object)
}

impl<'a> Dialect<'a> {
    /// # Errors
    /// 501 for a kind without a schema.
    pub(super) fn of(call: &'a Call, validation: FieldValidation, now: Timestamp) -> Result<Self, Status> {
        let target = Target::of(&call.kind, &call.version).ok_or_else(|| {
            let message = format!("the structure of {} is not known", call.kind.qualified_resource());
            Status::new(Reason::NotImplemented, message)
        })?;
        Ok(Self { call, target, validation, now })
    }

    pub(super) fn target(&self) -> &Target<'a> {
        &self.target
    }

    pub(super) fn read(&self, body: &Bytes, encoding: Encoding) -> Result<Value, Status> {
        read(self.call, &self.target, body, encoding, self.validation)
    }

    /// What a patch makes of an object, which is the call's or its scale.
    ///
    /// # Errors
    /// What [`Patch::of`] answers.
    pub(super) fn patched(
        &self,
        patch: &Patch,
        object: &Value,
        target: &Target<'_>,
    ) -> Result<Value, Status> {
        patch.of(object, target, self.validation).map(|decoded| self.warned(decoded))
    }

    fn warned(&self, decoded: Decoded) -> Value {
        for warning in decoded.warnings {
            self.call.warnings.add(warning);
        }
        decoded.object
    }

    /// Checks what a manager wants to apply; what it leaves out stays out.
    pub(super) fn check_config(&self, patch: &Patch) -> Result<Value, Status> {
        let Patch { says: config, repeated, .. } = patch;
        if !config.is_object() {
            return Err(Status::bad_request("error decoding YAML: the configuration is no object"));
        }
        let text = |key: &str| config[key].as_str().unwrap_or_default();
        let target = &self.target;
        if (text("apiVersion"), text("kind")) != (&*api_version(target.group, target.version), target.kind) {
            let ((group, version), kind) = (split_api_version(text("apiVersion")), text("kind"));
            return Err(Status::bad_request(format!("invalid object type: {group}/{version}, Kind={kind}")));
        }
        // Whatever is asked of other writes, nobody can own a field that there is not.
        let read = decode::decode_tree(&self.target, config.clone(), FieldValidation::Ignore)?;
        apply::declared(config, self.target.ty)?;
        if !repeated.is_empty() && self.validation != FieldValidation::Ignore {
            if self.validation == FieldValidation::Strict {
                let told = repeated.join("\n  ");
                return Err(Status::bad_request(format!(
                    "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {told}"
                )));
            }
            repeated.iter().for_each(|repeated| self.call.warnings.add(repeated));
        }
        Ok(apply::configuration(config, read.object))
    }

    /// A stored object in the call's version.
    pub(super) fn spoken<'v>(&self, stored: &'v Value) -> Cow<'v, Value> {
        if convert::is_identity(&self.call.kind, &self.call.version) {
            return Cow::Borrowed(stored);
        }
        let mut object = stored.clone();
        convert::from_storage(&self.call.kind, &self.call.version, &mut object);
        Cow::Owned(object)
    }

    /// How an object that the client wrote as a whole is stored: with its defaults, and a note of who owns
    /// what. `live` is the stored object that it takes the place of.
    pub(super) fn written(&self, live: Option<&Value>, mut object: Value) -> Value {
        self.call.kind.fill_defaults(&self.call.version, &mut object);
        let live = live.map(|live| self.spoken(live));
        self.with_types(|writer, types| apply::updated(live.as_deref(), &mut object, writer, types));
        convert::to_storage(&self.call.kind, &self.call.version, &mut object);
        object
    }

    /// How an object is stored after a manager applied its configuration.
    ///
    /// # Errors
    /// 409 if others own what would change, 400 for a configuration that cannot be applied.
    pub(super) fn applied(&self, live: Option<&Value>, config: &Value, force: bool) -> Result<Value, Status> {
        let live = live.map(|live| self.spoken(live).into_owned());
        let merged = self.with_types(|writer, types| apply::applied(live, config, writer, force, types))?;
        let mut object = self.warned(decode::decode_tree(&self.target, merged, self.validation)?);
        self.call.kind.fill_defaults(&self.call.version, &mut object);
        convert::to_storage(&self.call.kind, &self.call.version, &mut object);
        Ok(object)
    }

    fn with_types<T>(&self, use_them: impl FnOnce(&Writer<'_>, &Types<'_, '_>) -> T) -> T {
        let kind = &self.call.kind;
        let row = |group: &str| if group == kind.group { Some(&**kind) } else { elsewhere(kind, group) };
        // From whichever version the object is in: owners of other versions take turns with it.
        let convert = |object: &Value, wanted: &str| {
            let (group, version) = split_api_version(wanted);
            let (from_group, from) = split_api_version(object["apiVersion"].as_str()?);
            let (had, row) = (row(from_group)?, row(group)?);
            let served = &*row.version(version)?.name;
            let mut object = object.clone();
            convert::to_storage(had, from, &mut object);
            convert::from_storage(row, version, &mut object);
            Some((object, Target::of(row, served)?.ty))
        };
        let ignored = match (&*self.call.subresource, kind.subresource("status").map(|s| &s.action)) {
            ("status", _) => &*SPEC,
            (_, Some(Action::Update(_))) => &*STATUS,
            _ => &*NOTHING,
        };
        let api_version = api_version(&kind.group, &self.call.version);
        let writer = Writer {
            manager: &self.call.field_manager,
            api_version: &api_version,
            subresource: &self.call.subresource,
            now: self.now,
            ignored,
        };
        use_them(&writer, &Types { ty: self.target.ty, convert: &convert })
    }
}

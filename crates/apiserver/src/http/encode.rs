//! Objects, lists and watch events as a client asked to see them.

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tiphys_api::codec::{cbor, protobuf, yaml};
use tiphys_api::convert;
use tiphys_api::field::quoted;
use tiphys_api::kind::{Kind, api_version};
use tiphys_api::status::Status;
use tiphys_api::table::{self, Column, Printer};

use super::negotiate::{Accepted, Encoding, Shape};

/// How much of the object comes with a row of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    /// Reads `includeObject`, of which only tables are asked.
    pub(crate) fn parse(text: &str, shape: Shape) -> Result<Self, Status> {
        match text {
            _ if !matches!(shape, Shape::Table { .. }) => Ok(Self::Metadata),
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {}: must be 'Metadata', \
                 'Object', 'None', or empty",
                quoted(other)
            ))),
        }
    }
}

/// What a list says besides its items.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListMeta {
    pub(crate) resource_version: String,
    pub(crate) next: Option<String>,
    pub(crate) remaining: Option<u64>,
}

impl ListMeta {
    fn to_value(&self) -> Value {
        let mut meta = Map::new();
        meta.insert("resourceVersion".into(), self.resource_version.as_str().into());
        if let Some(next) = &self.next {
            meta.insert("continue".into(), next.as_str().into());
        }
        if let Some(remaining) = self.remaining {
            meta.insert("remainingItemCount".into(), remaining.into());
        }
        Value::Object(meta)
    }
}

/// A client's view of one kind: the version that it speaks, its encoding and the shape that it asked for.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) kind: std::sync::Arc<Kind>,
    pub(crate) version: String,
    pub(crate) accepted: Accepted,
    pub(crate) include: Include,
    pub(crate) now: Timestamp,
    /// The columns of tables have been told already: a watch tells them once.
    pub(crate) headless: bool,
}

#[derive(Deserialize)]
struct OnlyMetadata<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

impl View {
    pub(crate) fn content_type(&self) -> &'static str {
        self.accepted.encoding.media_type()
    }

    /// The media type of a watch.
    pub(crate) fn stream_type(&self) -> &'static str {
        match self.accepted.encoding {
            // Upstream's own frames have a name; JSON, one object after the other, needs none.
            Encoding::Json => "application/json",
            other => other.stream_media_type().unwrap_or("application/json"),
        }
    }

    /// Whether what it shows next tells the columns of a table.
    pub(crate) fn has_columns(&self) -> bool {
        !self.headless && matches!(self.accepted.shape, Shape::Table { .. })
    }

    /// Names the encoding of frames among all that a kind's frames can have.
    pub(crate) fn frame_key(&self) -> String {
        let Accepted { encoding, shape, .. } = &self.accepted;
        format!("{}/{encoding:?}/{shape:?}/{:?}/{}", self.version, self.include, self.headless)
    }

    /// An object's JSON in the view's version and shape, from its JSON in the storage version.
    fn shaped(&self, stored: &Bytes) -> Result<Bytes, Status> {
        match self.accepted.shape {
            Shape::Whole if self.shown_as_stored() => Ok(stored.clone()),
            Shape::Whole => to_json(&self.in_version(stored)?),
            Shape::Metadata { beta } => metadata_of(stored, beta),
            Shape::Table { beta } => {
                let rows = vec![self.row(stored)?];
                to_json(&self.table(beta, rows, &resource_version_of(stored)?))
            }
        }
    }

    /// Whether a webhook has to convert what is stored before it comes here.
    pub(crate) fn is_converted(&self) -> bool {
        self.kind.converter(&self.version).is_some()
    }

    /// Whether stored bytes can go out as they are.
    fn shown_as_stored(&self) -> bool {
        let complete = !self.kind.is_completed_on_read();
        self.is_converted() || (convert::is_stored_as(&self.kind, &self.version) && complete)
    }

    /// A stored object with the defaults that it may lack.
    fn complete(&self, stored: &Bytes) -> Result<Value, Status> {
        let mut tree = parse(stored)?;
        if let Some(storage) =
            self.kind.storage.as_ref().filter(|_| self.kind.is_completed_on_read() && !self.is_converted())
        {
            self.kind.fill_defaults(&storage.version, &mut tree);
        }
        Ok(tree)
    }

    fn in_version(&self, stored: &Bytes) -> Result<Value, Status> {
        let mut tree = self.complete(stored)?;
        convert::from_storage(&self.kind, &self.version, &mut tree);
        Ok(tree)
    }

    fn row(&self, stored: &Bytes) -> Result<Value, Status> {
        let mut tree = self.complete(stored)?;
        let cells = self.kind.cells(&self.version, &tree, self.now);
        let beta = matches!(self.accepted.shape, Shape::Table { beta: true });
        Ok(table::row(
            cells,
            match self.include {
                Include::None => None,
                Include::Metadata => Some(parse(&metadata_of(stored, beta)?)?),
                Include::Object => {
                    convert::from_storage(&self.kind, &self.version, &mut tree);
                    Some(tree)
                }
            },
        ))
    }

    fn table(&self, beta: bool, rows: Vec<Value>, metadata: &Value) -> Value {
        let columns = if self.headless { Vec::new() } else { self.kind.columns(&self.version) };
        let mut table = table::table(meta_version(beta), metadata, columns, rows);
        if self.headless {
            table["columnDefinitions"] = Value::Null;
        }
        table
    }

    /// One object.
    pub(crate) fn object(&self, stored: &Bytes) -> Result<Bytes, Status> {
        let json = self.shaped(stored)?;
        match (self.accepted.encoding, self.accepted.pretty) {
            (Encoding::Json, false) => Ok(json),
            (encoding, pretty) => value(&parse(&json)?, encoding, pretty),
        }
    }

    /// What stands before and after the items of a list in JSON, which are parted by commas. `None`: the list
    /// can't be put together from its items' bytes.
    pub(crate) fn list_frame(&self, meta: &ListMeta) -> Option<(Bytes, Bytes)> {
        if self.accepted.encoding != Encoding::Json || self.accepted.pretty {
            return None;
        }
        let (kind, version) = match self.accepted.shape {
            Shape::Whole => (&*self.kind.list_kind, api_version(&self.kind.group, &self.version)),
            Shape::Metadata { beta } => ("PartialObjectMetadataList", meta_version(beta).to_owned()),
            Shape::Table { .. } => return None,
        };
        let head = format!(
            "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[",
            Value::from(kind),
            Value::from(version),
            meta.to_value()
        );
        Some((head.into(), Bytes::from_static(b"]}\n")))
    }

    /// An item between the two parts of [`Self::list_frame`].
    pub(crate) fn item(&self, stored: &Bytes) -> Result<Bytes, Status> {
        self.shaped(stored)
    }

    /// A list that is put together as a tree.
    pub(crate) fn list(&self, meta: &ListMeta, items: impl Iterator<Item = Bytes>) -> Result<Bytes, Status> {
        let list = match self.accepted.shape {
            Shape::Table { beta } => {
                let rows = items.map(|item| self.row(&item)).collect::<Result<Vec<_>, _>>()?;
                self.table(beta, rows, &meta.to_value())
            }
            Shape::Whole | Shape::Metadata { .. } => {
                let (kind, version) = match self.accepted.shape {
                    Shape::Metadata { beta } => ("PartialObjectMetadataList", meta_version(beta).to_owned()),
                    _ => (&*self.kind.list_kind, api_version(&self.kind.group, &self.version)),
                };
                let items =
                    items.map(|item| parse(&self.shaped(&item)?)).collect::<Result<Vec<_>, Status>>()?;
                json!({"kind": kind, "apiVersion": version, "metadata": meta.to_value(), "items": items})
            }
        };
        value(&list, self.accepted.encoding, self.accepted.pretty)
    }

    /// A watch event with an object.
    pub(crate) fn event(&self, event: &'static str, stored: &Bytes) -> Result<Bytes, Status> {
        self.frame(event, self.shaped(stored)?)
    }

    /// A bookmark.
    pub(crate) fn bookmark(&self, revision: &str, initial: bool) -> Result<Bytes, Status> {
        let mut metadata = json!({"resourceVersion": revision, "creationTimestamp": null});
        if initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.accepted.shape {
            Shape::Whole => json!({
                "kind": *self.kind.kind, "apiVersion": api_version(&self.kind.group, &self.version),
                "metadata": metadata,
            }),
            Shape::Metadata { beta } => table::partial(meta_version(beta), &metadata),
            Shape::Table { beta } => {
                let cells = vec![Value::Null; self.kind.columns(&self.version).len()];
                let row = table::row(cells, Some(table::partial(meta_version(beta), &metadata)));
                self.table(beta, vec![row], &json!({"resourceVersion": revision}))
            }
        };
        self.frame("BOOKMARK", to_json(&object)?)
    }

    /// The event that ends a watch.
    pub(crate) fn failure(&self, status: &Status) -> Result<Bytes, Status> {
        self.frame("ERROR", to_json(&status.to_value())?)
    }

    fn frame(&self, event: &'static str, object: Bytes) -> Result<Bytes, Status> {
        match self.accepted.encoding {
            Encoding::Json => {
                let mut frame = BytesMut::with_capacity(object.len() + 40);
                frame.put_slice(b"{\"type\":\"");
                frame.put_slice(event.as_bytes());
                frame.put_slice(b"\",\"object\":");
                frame.put_slice(&object);
                frame.put_slice(b"}\n");
                Ok(frame.freeze())
            }
            // An item of a sequence ends where it ends.
            Encoding::Cbor => {
                value(&json!({"type": event, "object": parse(&object)?}), Encoding::Cbor, false)
            }
            // YAML is never negotiated for a watch.
            Encoding::Protobuf | Encoding::Yaml => {
                Ok(protobuf::encode_watch_event(event, &parse(&object)?)?.into())
            }
        }
    }
}

/// An object that is no kind's own, as a client asked to see it; `printer` makes its row.
pub(crate) fn printed(
    object: &Value,
    printer: &Printer,
    accepted: &Accepted,
    include: Include,
    now: Timestamp,
) -> Result<Bytes, Status> {
    let shown = match accepted.shape {
        Shape::Whole => object.clone(),
        Shape::Metadata { beta } => table::partial(meta_version(beta), &object["metadata"]),
        Shape::Table { beta } => {
            let version = meta_version(beta);
            let about = match include {
                Include::None => None,
                Include::Metadata => Some(table::partial(version, &object["metadata"])),
                Include::Object => Some(object.clone()),
            };
            let columns = printer.columns.iter().map(Column::definition).collect();
            let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
            table::table(version, &metadata, columns, vec![table::row((printer.cells)(object, now), about)])
        }
    };
    value(&shown, accepted.encoding, accepted.pretty)
}

fn meta_version(beta: bool) -> &'static str {
    if beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" }
}

fn metadata_of(object: &[u8], beta: bool) -> Result<Bytes, Status> {
    let only: OnlyMetadata<'_> = serde_json::from_slice(object).map_err(Status::internal)?;
    Ok(format!(
        "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{}\",\"metadata\":{}}}",
        meta_version(beta),
        only.metadata.get()
    )
    .into())
}

fn resource_version_of(object: &[u8]) -> Result<Value, Status> {
    #[derive(Deserialize)]
    struct Version {
        #[serde(rename = "resourceVersion", default)]
        resource_version: String,
    }
    #[derive(Deserialize)]
    struct Versioned {
        metadata: Version,
    }
    let read: Versioned = serde_json::from_slice(object).map_err(Status::internal)?;
    Ok(json!({"resourceVersion": read.metadata.resource_version}))
}

fn parse(json: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(json).map_err(Status::internal)
}

fn to_json(value: &Value) -> Result<Bytes, Status> {
    serde_json::to_vec(value).map(Bytes::from).map_err(Status::internal)
}

/// A tree that says what it is (`apiVersion` and `kind`), in any encoding.
pub(crate) fn value(value: &Value, encoding: Encoding, pretty: bool) -> Result<Bytes, Status> {
    match encoding {
        Encoding::Json if pretty => {
            let mut bytes = serde_json::to_vec_pretty(value).map_err(Status::internal)?;
            bytes.push(b'\n');
            Ok(bytes.into())
        }
        Encoding::Json => to_json(value),
        Encoding::Yaml => yaml::from_value(value).map(Bytes::from).map_err(Status::internal),
        Encoding::Protobuf => Ok(protobuf::encode(value)?.into()),
        Encoding::Cbor => cbor::encode(value).map(Bytes::from).map_err(Status::internal),
    }
}

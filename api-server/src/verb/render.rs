//! How objects become an answer: bytes as they are stored, or a Table, or metadata alone, or YAML.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use quorate_api::codec::encode;
use quorate_api::custom::columns;
use quorate_api::resource::ResourceDef;
use quorate_api::schema::{TypeId, ids};
use quorate_state_machine::Revision;
use quorate_state_machine::object::{Stored, StoredRef};
use serde_json::{Value, json};

use super::Request;
use crate::limits::LIST_CHUNK_BYTES;
use crate::model;
use crate::negotiate::{self, Encoding, Form, Shape};
use crate::reply::{self, Body};
use crate::status_error::Answer;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// An object as a protobuf body.
fn protobuf(value: &Value, ty: TypeId) -> Vec<u8> {
    let text = |name: &str| model::text(&value[name]);
    encode::body(text("apiVersion"), text("kind"), value, ty)
}

/// What a list says about itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListMeta {
    pub(crate) revision: Revision,
    pub(crate) continue_token: String,
    pub(crate) remaining: Option<u64>,
}

impl ListMeta {
    fn value(&self) -> Value {
        let mut meta = json!({"resourceVersion": self.revision.to_string()});
        if !self.continue_token.is_empty() {
            meta["continue"] = json!(self.continue_token);
        }
        if let Some(remaining) = self.remaining {
            meta["remainingItemCount"] = json!(remaining);
        }
        meta
    }
}

/// How tables show the objects of their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowObject {
    None,
    Metadata,
    Object,
}

impl RowObject {
    /// `includeObject`.
    pub(crate) fn of(parameter: &str) -> Answer<Self> {
        match parameter {
            "None" => Ok(Self::None),
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Object),
            other => {
                let error = quorate_api::field::Error::invalid(
                    &quorate_api::field::Path::new("includeObject"),
                    other,
                    "must be 'Metadata', 'Object', 'None', or empty",
                );
                Err(Box::new(quorate_api::status::Status::bad_request(format!(
                    "Unable to convert to Table as requested: {error}"
                ))))
            }
        }
    }
}

/// `PartialObjectMetadata` of an object.
pub(crate) fn metadata_of(object: &Value, api_version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": api_version,
        "metadata": object["metadata"],
    })
}

/// One row of a Table.
pub(crate) fn row(def: &ResourceDef, object: Value, api_version: &str, ctx: RowContext) -> Value {
    let row = match def.custom {
        Some(custom) => json!({"cells": columns::cells(&custom.columns, &object, ctx.now)}),
        None => model::table_row((def.group(), def.kind()), &object, ctx.now),
    };
    with_object(row, object, api_version, ctx.include)
}

fn with_object(mut row: Value, object: Value, api_version: &str, include: RowObject) -> Value {
    match include {
        RowObject::None => {}
        RowObject::Metadata => row["object"] = metadata_of(&object, api_version),
        RowObject::Object => row["object"] = object,
    }
    row
}

/// What all rows of an answer share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowContext {
    pub(crate) include: RowObject,
    pub(crate) now: jiff::Timestamp,
}

/// A Table.
pub(crate) fn table(
    def: &ResourceDef,
    rows: Vec<Value>,
    api_version: &str,
    meta: Value,
    columns: bool,
) -> Value {
    let columns = match def.custom {
        _ if !columns => json!([]),
        Some(custom) => columns::definitions(&custom.columns),
        None => model::table_columns((def.group(), def.kind())),
    };
    table_of(columns, rows, api_version, meta)
}

fn table_of(columns: Value, rows: Vec<Value>, api_version: &str, meta: Value) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": api_version,
        "metadata": meta,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

impl Request {
    fn form(&self, list: bool) -> Answer<Form> {
        let form = negotiate::form(&self.parts.headers, list)?;
        let own = form.shape == Shape::Object && form.encoding == Encoding::Protobuf;
        if own && self.sub.map_or(self.def.custom, |sub| sub.custom).is_some() {
            let served = ["application/json", "application/yaml"];
            return Err(Box::new(quorate_api::status::Status::not_acceptable(&served)));
        }
        Ok(form)
    }

    fn row_context(&self) -> Answer<RowContext> {
        Ok(RowContext {
            include: RowObject::of(self.query.text("includeObject"))?,
            now: self.shared.clock.now(),
        })
    }

    fn pretty(&self) -> bool {
        negotiate::pretty(&self.parts.headers, self.query.get("pretty"))
    }

    /// 406 before anything is done, when the answer could not be given.
    pub(crate) fn check_form(&self) -> Answer<()> {
        self.form(false).map(|_| ())
    }

    /// One stored object as the answer.
    pub(crate) fn show_stored(&self, code: u16, stored: &Stored) -> Answer<Response<Body>> {
        let form = self.form(false)?;
        if form == Form::STORED && !self.pretty() {
            let mut out = Vec::with_capacity(stored.image.bytes.len() + 64);
            model::write_served(self.def, stored, stored.revision, &mut out);
            out.push(b'\n');
            return Ok(reply::json(code, out));
        }
        self.show_as(form, code, model::tree(self.def, stored)?)
    }

    /// One object as the answer.
    pub(crate) fn show(&self, code: u16, object: Value) -> Answer<Response<Body>> {
        let form = self.form(false)?;
        self.show_as(form, code, object)
    }

    fn show_as(&self, form: Form, code: u16, object: Value) -> Answer<Response<Body>> {
        let (value, ty) = match form.shape {
            Shape::Object => (object, self.schema()),
            Shape::Metadata(version) => {
                (metadata_of(&object, version), ids::META_V1_PARTIALOBJECTMETADATA)
            }
            Shape::Table(version) => {
                let revision = object["metadata"]["resourceVersion"].clone();
                let row = row(self.def, object, version, self.row_context()?);
                let meta = json!({"resourceVersion": revision});
                (table(self.def, vec![row], version, meta, true), ids::META_V1_TABLE)
            }
        };
        self.write(form.encoding, code, &value, ty)
    }

    /// The struct of the objects that are answered with.
    fn schema(&self) -> TypeId {
        self.sub.map_or(self.def.schema, |sub| sub.schema)
    }

    /// An object of another kind than the resource's, which has a table of its own.
    pub(crate) fn show_kind(
        &self,
        code: u16,
        kind: (&str, &str),
        value: Value,
    ) -> Answer<Response<Body>> {
        let form = self.form(false)?;
        let Shape::Table(version) = form.shape else { return self.show_as(form, code, value) };
        let ctx = self.row_context()?;
        let meta = json!({"resourceVersion": value["metadata"]["resourceVersion"]});
        let row = model::table_row(kind, &value, ctx.now);
        let row = with_object(row, value, version, ctx.include);
        let table = table_of(model::table_columns(kind), vec![row], version, meta);
        self.write(form.encoding, code, &table, ids::META_V1_TABLE)
    }

    /// An answer that is no object of the resource.
    pub(crate) fn show_plain(&self, code: u16, value: &Value) -> Answer<Response<Body>> {
        let form = negotiate::plain(&self.parts.headers)?;
        self.write(form.encoding, code, value, self.schema())
    }

    fn write(
        &self,
        encoding: Encoding,
        code: u16,
        value: &Value,
        ty: TypeId,
    ) -> Answer<Response<Body>> {
        Ok(match encoding {
            Encoding::Yaml => reply::bytes(code, "application/yaml", model::yaml(value)?),
            Encoding::Protobuf => reply::bytes(code, PROTOBUF, protobuf(value, ty)),
            Encoding::Json if self.pretty() => reply::json(code, format!("{value:#}\n")),
            Encoding::Json => reply::json(code, format!("{value}\n")),
        })
    }

    /// A list as the answer.
    pub(crate) fn show_list(
        &self,
        items: Vec<StoredRef>,
        meta: &ListMeta,
    ) -> Answer<Response<Body>> {
        let form = self.form(true)?;
        if form == Form::STORED && !self.pretty() {
            return Ok(self.list_bytes(items, meta));
        }
        let trees = items.iter().map(|stored| model::tree(self.def, stored));
        let (value, ty) = match form.shape {
            Shape::Object => {
                let list = json!({
                    "kind": self.def.list_kind(),
                    "apiVersion": self.def.api_version(),
                    "metadata": meta.value(),
                    "items": trees.collect::<Answer<Vec<Value>>>()?,
                });
                (list, self.def.list_schema.unwrap_or(self.def.schema))
            }
            Shape::Metadata(version) => {
                let list = json!({
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": version,
                    "metadata": meta.value(),
                    "items": trees
                        .map(|tree| tree.map(|object| metadata_of(&object, version)))
                        .collect::<Answer<Vec<Value>>>()?,
                });
                (list, ids::META_V1_PARTIALOBJECTMETADATALIST)
            }
            Shape::Table(version) => {
                let ctx = self.row_context()?;
                let rows = trees
                    .map(|tree| tree.map(|object| row(self.def, object, version, ctx)))
                    .collect::<Answer<Vec<Value>>>()?;
                (table(self.def, rows, version, meta.value(), true), ids::META_V1_TABLE)
            }
        };
        self.write(form.encoding, 200, &value, ty)
    }

    /// Head, objects as they are stored, tail: nothing is decoded. What is long is written as the
    /// client reads it, unless it is to be compressed.
    fn list_bytes(&self, items: Vec<StoredRef>, meta: &ListMeta) -> Response<Body> {
        let size: usize = items.iter().map(|stored| stored.image.bytes.len() + 48).sum();
        let head = format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{},\"items\":[",
            self.def.list_kind(),
            self.def.api_version(),
            meta.value()
        );
        let whole = size <= LIST_CHUNK_BYTES || reply::takes_gzip(&self.parts.headers);
        let bound = if whole { usize::MAX } else { LIST_CHUNK_BYTES };
        let capacity = if whole { size } else { LIST_CHUNK_BYTES * 5 / 4 };
        let pieces = ListPieces {
            def: self.def,
            head: Some(head),
            items: items.into_iter(),
            written: 0,
            bound,
            capacity,
            done: false,
        };
        if !whole {
            return reply::json_pieces(pieces);
        }
        let mut pieces = pieces;
        reply::json(200, pieces.next().unwrap_or_default())
    }
}

/// A list as JSON, in pieces of about `bound` bytes.
struct ListPieces {
    def: &'static ResourceDef,
    head: Option<String>,
    items: std::vec::IntoIter<StoredRef>,
    /// Objects that are written.
    written: usize,
    bound: usize,
    /// Bytes that a piece is expected to have.
    capacity: usize,
    done: bool,
}

impl Iterator for ListPieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let head = self.head.take().unwrap_or_default();
        let mut out = Vec::with_capacity(self.capacity + head.len() + 8);
        out.extend_from_slice(head.as_bytes());
        while out.len() < self.bound {
            let Some(stored) = self.items.next() else {
                out.extend_from_slice(b"]}\n");
                self.done = true;
                break;
            };
            if self.written > 0 {
                out.push(b',');
            }
            self.written += 1;
            model::write_served(self.def, &stored, stored.revision, &mut out);
        }
        Some(out.into())
    }
}

/// The form of watch events, and what their tables need.
#[derive(Clone)]
pub(crate) struct EventForm {
    pub(crate) def: &'static ResourceDef,
    pub(crate) shape: Shape,
    /// In frames of protobuf instead of lines of JSON.
    pub(crate) protobuf: bool,
    pub(crate) include: RowObject,
    pub(crate) clock: Arc<dyn crate::clock::Clock>,
}

impl EventForm {
    pub(crate) fn of(request: &Request) -> Answer<Self> {
        // Events are single objects, but clients ask with the list's name too.
        let form = request.form(false).or_else(|_| request.form(true))?;
        // Events over a WebSocket are lines of text.
        let as_text = request.parts.headers.contains_key(http::header::UPGRADE);
        let fits = match form.encoding {
            Encoding::Json => true,
            Encoding::Yaml => false,
            Encoding::Protobuf => !as_text,
        };
        if !fits {
            return Err(Box::new(quorate_api::status::Status::not_acceptable(&[
                "application/json",
            ])));
        }
        Ok(Self {
            def: request.def,
            shape: form.shape,
            protobuf: form.encoding == Encoding::Protobuf,
            include: RowObject::of(request.query.text("includeObject"))?,
            clock: request.shared.clock.clone(),
        })
    }

    /// Appends one event. `first`: no event was sent before (tables then carry their columns).
    pub(crate) fn write(
        &self,
        kind: &str,
        stored: &Stored,
        revision: Revision,
        first: bool,
        out: &mut Vec<u8>,
    ) {
        if self.protobuf {
            let mut bytes = Vec::new();
            model::write_served(self.def, stored, revision, &mut bytes);
            let object = serde_json::from_slice(&bytes).unwrap_or_default();
            return self.write_frame(kind, &self.shown(object, first), out);
        }
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        match self.shape {
            Shape::Object => model::write_served(self.def, stored, revision, out),
            Shape::Metadata(_) | Shape::Table(_) => {
                let mut bytes = Vec::new();
                stored.write_at(revision, &mut bytes);
                let object = serde_json::from_slice(&bytes).unwrap_or_default();
                let object = crate::convert::to_served(self.def, object);
                out.extend_from_slice(self.shown(object, first).to_string().as_bytes());
            }
        }
        out.extend_from_slice(b"}\n");
    }

    /// Appends one frame of protobuf.
    fn write_frame(&self, kind: &str, shown: &Value, out: &mut Vec<u8>) {
        let ty = match (self.shape, model::text(&shown["kind"])) {
            (_, "Status") => ids::META_V1_STATUS,
            (Shape::Metadata(_), _) => ids::META_V1_PARTIALOBJECTMETADATA,
            (Shape::Object | Shape::Table(_), _) => self.def.schema,
        };
        out.extend_from_slice(&encode::event(kind, &protobuf(shown, ty)));
    }

    /// Appends the event that says why a watch ends.
    pub(crate) fn error(&self, status: &quorate_api::status::Status, out: &mut Vec<u8>) {
        if self.protobuf {
            let status = serde_json::to_value(status).unwrap_or_default();
            return self.write_frame("ERROR", &status, out);
        }
        out.extend_from_slice(json!({"type": "ERROR", "object": status}).to_string().as_bytes());
        out.push(b'\n');
    }

    fn shown(&self, object: Value, first: bool) -> Value {
        match self.shape {
            Shape::Object => object,
            Shape::Metadata(version) => metadata_of(&object, version),
            Shape::Table(version) => {
                let meta = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                let ctx = RowContext { include: self.include, now: self.clock.now() };
                let row = row(self.def, object, version, ctx);
                table(self.def, vec![row], version, meta, first)
            }
        }
    }

    /// Appends a bookmark.
    pub(crate) fn bookmark(
        &self,
        revision: Revision,
        initial_end: bool,
        first: bool,
        out: &mut Vec<u8>,
    ) {
        let mut object = json!({
            "kind": self.def.kind(),
            "apiVersion": self.def.api_version(),
            "metadata": {"resourceVersion": revision.to_string()},
        });
        if initial_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let shown = match self.shape {
            Shape::Table(version) => {
                let rows = vec![json!({"cells": [], "object": metadata_of(&object, version)})];
                table(self.def, rows, version, object["metadata"].clone(), first)
            }
            Shape::Object | Shape::Metadata(_) => self.shown(object, first),
        };
        if self.protobuf {
            return self.write_frame("BOOKMARK", &shown, out);
        }
        out.extend_from_slice(json!({"type": "BOOKMARK", "object": shown}).to_string().as_bytes());
        out.push(b'\n');
    }
}

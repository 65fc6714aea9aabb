//! What rows contribute to documents, made once.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tiphys_api::kind::Kind;

use super::{
    Dialect, Fields, Texts,
    components::{Components, full_name},
    paths, protobuf,
};
use crate::per_row::PerRow;

/// A row in a version.
pub(super) type Row<'a> = (&'a Arc<Kind>, &'a str);

/// Paths and schemas.
pub(super) type Parts = (Texts, Texts);
/// The same as members of gnostic's messages.
type Encoded = (Fields, Fields);

/// What documents are put together of.
#[derive(Default)]
pub(crate) struct Pieces {
    v2: PerRow<Piece>,
    v3: PerRow<Piece>,
    encoded: PerRow<Encoded>,
    /// Of all built-in rows, which never change, as OpenAPI v2.
    builtin: Option<Parts>,
    builtin_encoded: Option<Encoded>,
    /// Schemas of the artefact, with all that they refer to, by the names that were asked for.
    schemas: HashMap<(Dialect, BTreeSet<&'static str>), Texts>,
}

/// What a custom kind contributes.
#[derive(Clone)]
struct Piece {
    paths: Texts,
    schemas: Texts,
    /// The artefact's names of the schemas that it refers to.
    wanted: Vec<&'static str>,
}

impl Piece {
    fn of((kind, version): Row<'_>, dialect: Dialect) -> Self {
        let (mut components, mut paths) = (Components::new(dialect), Texts::default());
        paths::of_kind(kind, version, &mut components, &mut paths);
        let (schemas, wanted) = components.so_far();
        Self { paths, schemas, wanted }
    }
}

/// Built-in rows, and custom ones.
fn parted(rows: Vec<Row<'_>>) -> (Vec<Row<'_>>, Vec<Row<'_>>) {
    rows.into_iter().partition(|(kind, _)| kind.custom.is_none())
}

/// What rows contribute together, with all that it refers to.
fn described(dialect: Dialect, rows: &[Row<'_>]) -> Parts {
    let (mut components, mut paths) = (Components::new(dialect), Texts::default());
    for (kind, version) in rows {
        paths::of_kind(kind, version, &mut components, &mut paths);
    }
    (paths, components.finish())
}

impl Pieces {
    /// Lets go what is of rows that are no more.
    pub(crate) fn sweep(&mut self) {
        self.v2.sweep();
        self.v3.sweep();
        self.encoded.sweep();
    }

    /// The paths and schemas of rows: of OpenAPI v2 all rows there are.
    pub(super) fn texts(&mut self, dialect: Dialect, rows: Vec<Row<'_>>) -> Parts {
        let (builtin, custom) = parted(rows);
        let (mut paths, mut schemas) = match dialect {
            _ if builtin.is_empty() => Parts::default(),
            Dialect::V2 => self.builtin(&builtin).clone(),
            Dialect::V3 => described(dialect, &builtin),
        };
        let mut wanted = BTreeSet::new();
        for row in custom {
            let piece = self.piece(row, dialect);
            paths.extend(&piece.paths);
            schemas.extend(&piece.schemas);
            wanted.extend(&piece.wanted);
        }
        if let Some(more) = self.missing(dialect, wanted, &schemas) {
            schemas.extend(more);
        }
        (paths, schemas)
    }

    /// The same of all rows, as gnostic's messages.
    pub(super) fn encoded(&mut self, rows: Vec<Row<'_>>) -> Result<Encoded, serde_json::Error> {
        let (builtin, custom) = parted(rows);
        let (mut paths, mut schemas) = match &self.builtin_encoded {
            Some(encoded) => encoded.clone(),
            None => {
                let encoded = encode(self.builtin(&builtin))?;
                self.builtin_encoded.insert(encoded).clone()
            }
        };
        let mut wanted = BTreeSet::new();
        for row @ (kind, version) in custom {
            let piece = self.piece(row, Dialect::V2);
            wanted.extend(&piece.wanted);
            let parts = (piece.paths.clone(), piece.schemas.clone());
            let (of_paths, of_schemas) = self.encoded.try_get(kind, version, || encode(&parts))?;
            paths.extend(of_paths);
            schemas.extend(of_schemas);
        }
        let (_, known) = self.builtin(&builtin).clone();
        if let Some(more) = self.missing(Dialect::V2, wanted, &known) {
            schemas.extend(&protobuf::definitions(more)?);
        }
        Ok((paths, schemas))
    }

    fn builtin(&mut self, rows: &[Row<'_>]) -> &Parts {
        self.builtin.get_or_insert_with(|| described(Dialect::V2, rows))
    }

    fn piece(&mut self, row: Row<'_>, dialect: Dialect) -> &Piece {
        let pieces = match dialect {
            Dialect::V2 => &mut self.v2,
            Dialect::V3 => &mut self.v3,
        };
        pieces.get(row.0, row.1, || Piece::of(row, dialect))
    }

    /// The schemas that are wanted and not known, with all that they refer to.
    fn missing(
        &mut self,
        dialect: Dialect,
        mut wanted: BTreeSet<&'static str>,
        known: &Texts,
    ) -> Option<&Texts> {
        wanted.retain(|name| !known.contains(&full_name(name)));
        if wanted.is_empty() {
            return None;
        }
        Some(self.schemas.entry((dialect, wanted)).or_insert_with_key(|(dialect, wanted)| {
            let mut components = Components::new(*dialect);
            components.want(wanted.iter().copied());
            components.finish()
        }))
    }
}

fn encode((paths, schemas): &Parts) -> Result<Encoded, serde_json::Error> {
    Ok((protobuf::paths(paths)?, protobuf::definitions(schemas)?))
}

//! The API as data: kinds, schemas, defaulting, conversion, validation, patching, codecs. No I/O.

pub mod field;
pub mod kind;
pub mod meta;
pub mod schema;
pub mod status;
pub mod table;

//! The API as data: kinds, schemas, defaulting, conversion, validation, patching, codecs. No I/O.

pub mod codec;
pub mod convert;
pub mod decode;
pub mod defaults;
pub mod field;
pub mod kind;
pub mod meta;
pub mod names;
pub mod patch;
pub mod prepare;
pub mod quantity;
pub mod schema;
pub mod selector;
pub mod status;
pub mod table;
mod validate;

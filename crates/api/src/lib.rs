//! The API as data: kinds, schemas, defaulting, conversion, validation, patching, codecs. No I/O.
//!
//! An object is a JSON tree, built-in and custom alike. A request goes through the modules in this order:
//! [`kind`] finds the row, [`decode`] makes the tree along the [`schema`], [`defaults`] fill it in, [`convert`]
//! brings it into the storage version, [`prepare`] puts back what the caller may not write, and the row's rules
//! judge it. [`table`] shows it to people. A row's hooks are the only way in to what one kind alone does.

pub mod codec;
pub mod convert;
pub mod custom;
pub mod decode;
pub mod defaults;
pub mod field;
pub mod jsonpath;
pub mod kind;
pub mod meta;
pub mod names;
pub mod patch;
pub mod prepare;
pub mod quantity;
pub mod quota;
pub mod schedule;
pub mod schema;
pub mod selector;
pub mod semver;
pub mod status;
pub mod sysctl;
pub mod table;
pub mod tree;
mod validate;
mod warnings;

/// Where a kubelet listens unless it is told otherwise.
pub const KUBELET_PORT: u16 = 10250;

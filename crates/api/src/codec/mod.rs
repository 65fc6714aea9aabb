//! The encodings that objects travel in besides JSON.

pub mod cbor;
pub mod protobuf;
mod repeated;
pub mod yaml;

//! The encodings that objects travel in besides JSON.

pub mod protobuf;
pub mod yaml;

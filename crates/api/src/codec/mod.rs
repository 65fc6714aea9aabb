//! The encodings that objects travel in besides JSON.

pub mod yaml;

//! What is in files that flags and configurations name.

use std::{fs, path::Path};

use anyhow::{Context, Result};

pub(crate) fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("reading {}", file.display()))
}

pub(crate) fn read_text(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

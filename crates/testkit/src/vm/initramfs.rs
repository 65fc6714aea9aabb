//! The archive that a Linux kernel unpacks as its first file system.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;

/// Writes a cpio archive of the "newc" kind (`Documentation/driver-api/early-userspace/buffer-format.rst`).
/// Folders must be added before what they hold.
pub(super) struct Initramfs<W> {
    out: W,
    inodes: u32,
}

impl<W: Write> Initramfs<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, inodes: 0 }
    }

    pub(super) fn folder(&mut self, name: &str) -> Result<()> {
        self.entry(name, DIRECTORY | 0o755, &[]).with_context(|| format!("adding the folder {name}"))
    }

    pub(super) fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entry(name, FILE | mode, content).with_context(|| format!("adding {name}"))
    }

    /// Adds a folder of the host with everything below it that `wanted` says yes to by its path in the archive.
    pub(super) fn tree(&mut self, name: &str, from: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<()> {
        self.folder(name)?;
        let mut entries = std::fs::read_dir(from)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .with_context(|| format!("reading {}", from.display()))?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (path, name) = (entry.path(), format!("{name}/{}", entry.file_name().to_string_lossy()));
            if entry.file_type()?.is_dir() {
                self.tree(&name, &path, wanted)?;
            } else if wanted(&name) {
                let content = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
                self.file(&name, 0o644, &content)?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<W> {
        self.entry("TRAILER!!!", 0, &[]).context("ending the archive")?;
        Ok(self.out)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.inodes += 1;
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let length = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        self.out.write_all(b"070701")?;
        for field in [self.inodes, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, length, 0] {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(name.as_bytes())?;
        // The name ends with a zero; name and content each end on a multiple of four.
        self.pad(1, 110 + name.len() + 1)?;
        self.out.write_all(content)?;
        self.pad(0, content.len())
    }

    fn pad(&mut self, least: usize, written: usize) -> io::Result<()> {
        let zeros = least + written.next_multiple_of(4) - written;
        self.out.write_all(&[0; 4][..zeros])
    }
}

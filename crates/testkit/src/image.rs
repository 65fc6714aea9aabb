//! Small images for tests, made of busybox, and larger ones of the host's programs.

use std::{
    collections::BTreeMap,
    io::Write,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::text;

/// An image of one layer: a static busybox with links for its applets, or another static program.
pub struct Image {
    names: Vec<String>,
    entrypoint: Vec<String>,
    command: Vec<String>,
    /// Instead of busybox: what lies at the place that the entrypoint's first word names.
    program: Option<PathBuf>,
}

impl Image {
    pub fn busybox(names: &[&str], command: &[&str]) -> Self {
        Self { names: owned(names), entrypoint: Vec::new(), command: owned(command), program: None }
    }

    /// Nothing but the static program at `path`, which the entrypoint starts by the place that it gets.
    pub fn program(names: &[&str], path: &Path, entrypoint: &[&str]) -> Self {
        let program = Some(path.to_owned());
        Self { names: owned(names), entrypoint: owned(entrypoint), command: Vec::new(), program }
    }

    /// A web server on port 80 that answers with its host's name.
    pub fn web(names: &[&str]) -> Self {
        let serve = "mkdir -p /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www";
        Self::busybox(names, &["sh", "-c", serve])
    }

    /// Writes the image as a docker archive.
    pub fn write(&self, out: impl Write) -> Result<()> {
        let layer = match (&self.program, self.entrypoint.first()) {
            (Some(program), Some(place)) => {
                let content =
                    std::fs::read(program).with_context(|| format!("reading {}", program.display()))?;
                let mut layer = Builder::new(Vec::new());
                file(&mut layer, place.trim_start_matches('/'), 0o755, &content)?;
                layer.into_inner().context("ending the layer")?
            }
            _ => layer()?,
        };
        let config = json!({"Entrypoint": self.entrypoint, "Cmd": self.command, "Env": ["PATH=/bin"]});
        archive(out, &layer, &[(self.names.clone(), config)])
    }
}

/// Writes images, each its names and its settings, that share one layer as a docker archive.
pub fn archive(out: impl Write, layer: &[u8], images: &[(Vec<String>, Value)]) -> Result<()> {
    let digest = format!("{:x}", Sha256::digest(layer));
    let mut archive = Builder::new(out);
    file(&mut archive, &format!("{digest}/layer.tar"), 0o644, layer)?;
    let mut manifest = Vec::new();
    for (names, config) in images {
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        })
        .to_string();
        let id = format!("{:x}", Sha256::digest(&config));
        file(&mut archive, &format!("{id}.json"), 0o644, config.as_bytes())?;
        manifest.push(json!({
            "Config": format!("{id}.json"), "RepoTags": names, "Layers": [format!("{digest}/layer.tar")],
        }));
    }
    file(&mut archive, "manifest.json", 0o644, Value::from(manifest).to_string().as_bytes())?;
    archive.finish().context("ending the archive")
}

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

/// What busybox can stand for, one name a line.
fn applets() -> Result<String> {
    text(Command::new("/bin/busybox").arg("--list"))
}

fn layer() -> Result<Vec<u8>> {
    let busybox = std::fs::read("/bin/busybox").context("reading /bin/busybox; install busybox-static")?;
    let mut layer = Builder::new(Vec::new());
    for (path, mode) in [
        ("bin/", 0o755),
        ("etc/", 0o755),
        ("tmp/", 0o1777),
        ("proc/", 0o555),
        ("sys/", 0o555),
        ("dev/", 0o755),
    ] {
        let mut header = header(EntryType::Directory, mode, 0);
        layer.append_data(&mut header, path, std::io::empty())?;
    }
    file(&mut layer, "bin/busybox", 0o755, &busybox)?;
    file(
        &mut layer,
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    for applet in applets()?.lines().filter(|applet| *applet != "busybox") {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        layer.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    layer.into_inner().context("ending the layer")
}

/// A file system of programs that are linked to libraries. Their libraries come with them.
pub struct Layer {
    archive: Builder<Vec<u8>>,
    /// What may be linked to libraries.
    programs: Vec<PathBuf>,
}

impl Layer {
    /// The directories that every container has.
    pub fn new() -> Result<Self> {
        let mut layer = Self { archive: Builder::new(Vec::new()), programs: Vec::new() };
        for (at, mode) in [
            ("tmp/", 0o1777),
            ("var/tmp/", 0o1777),
            ("root/", 0o700),
            ("proc/", 0o555),
            ("sys/", 0o555),
            ("dev/", 0o755),
        ] {
            layer.entry(EntryType::Directory, at, mode, Path::new(""))?;
        }
        Ok(layer)
    }

    fn entry(&mut self, kind: EntryType, at: &str, mode: u32, target: &Path) -> Result<()> {
        let mut header = header(kind, mode, 0);
        match kind {
            EntryType::Symlink => self.archive.append_link(&mut header, at, target),
            _ => self.archive.append_data(&mut header, at, std::io::empty()),
        }
        .with_context(|| format!("adding {at}"))
    }

    pub fn link(&mut self, at: &str, target: &str) -> Result<()> {
        self.entry(EntryType::Symlink, at, 0o777, target.as_ref())
    }

    pub fn file(&mut self, at: &str, mode: u32, content: &[u8]) -> Result<()> {
        file(&mut self.archive, at, mode, content)
    }

    /// A file of the host. If it is a program that is linked to libraries, they come, too.
    pub fn copy(&mut self, at: &str, from: &Path, mode: u32) -> Result<()> {
        let content = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        if content.starts_with(b"\x7fELF") {
            self.programs.push(from.to_owned());
        }
        self.file(at, mode, &content)
    }

    /// A folder of the host with all that it holds.
    pub fn tree(&mut self, at: &str, from: &Path) -> Result<()> {
        let read = || format!("reading {}", from.display());
        for entry in std::fs::read_dir(from).with_context(read)? {
            let from = entry.with_context(read)?.path();
            let name = from.file_name().and_then(|name| name.to_str()).context("a name that is no text")?;
            let at = format!("{at}/{name}");
            let about = from.symlink_metadata().with_context(|| format!("reading {}", from.display()))?;
            if about.is_dir() {
                self.tree(&at, &from)?;
            } else if about.is_symlink() {
                self.entry(EntryType::Symlink, &at, 0o777, &std::fs::read_link(&from)?)?;
            } else {
                self.copy(&at, &from, about.permissions().mode() & 0o7777)?;
            }
        }
        Ok(())
    }

    /// Busybox under the names of its applets, but for those of other programs.
    pub fn busybox(&mut self, others: &[&str]) -> Result<()> {
        self.copy("bin/busybox", "/bin/busybox".as_ref(), 0o755)?;
        for applet in applets()?.lines().filter(|applet| *applet != "busybox" && !others.contains(applet)) {
            self.link(&format!("bin/{applet}"), "busybox")?;
        }
        Ok(())
    }

    /// The layer's archive. Libraries are looked for in `folder` before they are where the host has them.
    pub fn finish(mut self, folder: Option<&Path>) -> Result<Vec<u8>> {
        let mut ldd = Command::new("ldd");
        ldd.args(&self.programs).envs(folder.map(|folder| ("LD_LIBRARY_PATH", folder)));
        // It fails if one of them needs no library.
        let told = ldd.output().context("starting ldd")?;
        let needs = String::from_utf8_lossy(&told.stdout);
        ensure!(!needs.contains("not found"), "libraries are missing: {needs}");
        // Headings, which name what is linked, end with a colon.
        let paths = needs.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
        let libraries: BTreeMap<String, &Path> = paths
            .map(Path::new)
            .map(|path| match folder.and_then(|folder| path.strip_prefix(folder).ok()) {
                Some(name) => (format!("usr/lib/{}", name.display()), path),
                None => (path.to_string_lossy().trim_start_matches('/').to_owned(), path),
            })
            .collect();
        for (at, from) in libraries {
            let content = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
            self.file(&at, 0o755, &content)?;
        }
        self.archive.into_inner().context("ending the layer")
    }
}

/// The header of an entry that root owns.
pub fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Adds a file that root owns.
pub fn file(archive: &mut Builder<impl Write>, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = header(EntryType::Regular, mode, content.len());
    archive.append_data(&mut header, path, content).with_context(|| format!("adding {path}"))
}

//! Small images for tests, made of busybox.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

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
    let applets = [
        "bc", "cat", "date", "dd", "echo", "env", "false", "find", "head", "hostname", "httpd", "id", "kill",
        "ls", "mkdir", "nc", "nslookup", "ps", "rm", "sh", "sleep", "sync", "tail", "tar", "test", "touch",
        "true", "wc", "wget",
    ];
    for applet in applets {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        layer.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    layer.into_inner().context("ending the layer")
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

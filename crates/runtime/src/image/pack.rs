//! Images made of a running binary: no registry and no archive is needed to run it in a pod.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use serde_json::json;
use tar::{EntryType, Header};

use super::store::{Store, chain_id};
use super::{ImageRecord, parse_name};
use crate::error::{Error, Result};

/// One image to make of the binary.
#[derive(Clone, Debug, Default)]
pub struct SelfImage {
    /// Its name, `tiphys.local/demo` for example.
    pub name: String,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `uid` or `uid:gid`; empty is root.
    pub user: String,
}

/// Where the binary lies in its image.
const BINARY: &str = "tiphys";

impl Store {
    /// Makes images whose one layer holds the static executable `exe` as `/tiphys`, the directories `/tmp`, `/etc`,
    /// `/proc`, `/sys` and `/dev`, and a symbolic link to the binary at each of `links` (`bin/sh` for example).
    ///
    /// The images are pinned: garbage collection leaves them.
    ///
    /// # Errors
    /// [`Error::Io`] when the executable can't be read or the disk is full, [`Error::Invalid`] for a bad name.
    pub fn pack(&self, exe: &Path, links: &[&str], images: &[SelfImage]) -> Result<Vec<ImageRecord>> {
        let file = File::open(exe).map_err(Error::io("open", exe))?;
        let size = file.metadata().map_err(Error::io("look at", exe))?.len();
        let header =
            |path: &str, kind: EntryType, mode: u32, size: u64, link: Option<&str>| -> Result<Header> {
                let mut header = Header::new_ustar();
                let set = |error| Error::Io { step: "pack", path: path.into(), source: error };
                header.set_path(path).map_err(set)?;
                if let Some(link) = link {
                    header.set_link_name(link).map_err(set)?;
                }
                header.set_entry_type(kind);
                header.set_mode(mode);
                header.set_size(size);
                header.set_uid(0);
                header.set_gid(0);
                header.set_mtime(0);
                header.set_cksum();
                Ok(header)
            };
        let mut before = Vec::new();
        for (path, mode) in
            [("etc/", 0o755), ("proc/", 0o555), ("sys/", 0o555), ("dev/", 0o755), ("tmp/", 0o1777)]
        {
            before.extend_from_slice(header(path, EntryType::Directory, mode, 0, None)?.as_bytes());
        }
        let passwd = b"root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n";
        before.extend_from_slice(
            header("etc/passwd", EntryType::Regular, 0o644, passwd.len() as u64, None)?.as_bytes(),
        );
        before.extend_from_slice(passwd);
        before.resize(before.len().next_multiple_of(512), 0);
        before.extend_from_slice(header(BINARY, EntryType::Regular, 0o755, size, None)?.as_bytes());
        let padding = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
        let mut after = vec![0; padding];
        for link in links {
            let target = format!("/{BINARY}");
            after.extend_from_slice(header(link, EntryType::Symlink, 0o777, 0, Some(&target))?.as_bytes());
        }
        after.resize(after.len() + 1024, 0);

        let stream = Cursor::new(before).chain(file.take(size)).chain(Cursor::new(after));
        let diff = self.unpack(stream, None, None)?;
        let mut records = Vec::new();
        for image in images {
            let config = json!({
                "architecture": oci_spec::image::Arch::default().to_string(),
                "os": "linux",
                "config": {
                    "User": image.user,
                    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/"],
                    "Entrypoint": image.entrypoint,
                    "Cmd": image.cmd,
                    "WorkingDir": "/",
                },
                "rootfs": { "type": "layers", "diff_ids": [diff] },
            });
            let name = parse_name(&image.name)?.whole();
            let chain = vec![chain_id(None, &diff)];
            records.push(self.record(config.to_string().as_bytes(), chain, &[name], &[], true)?);
        }
        Ok(records)
    }
}

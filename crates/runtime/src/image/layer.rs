//! Unpacks a layer's tar stream into a directory that overlayfs can use as it is.
//!
//! The stream is hostile until proven otherwise. No path is ever resolved by name from outside the directory:
//! everything goes through descriptors and `openat2` with `RESOLVE_IN_ROOT`, so a symbolic link in the layer can
//! point where it likes and still lead nowhere but into the layer.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::libc;
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstat, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};
use sha2::{Digest, Sha256};
use tar::{Archive, Entry, EntryType};

use crate::error::{Error, Result};
use crate::sys;

/// How large a layer may become.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 4_000_000 }
    }
}

/// What came of unpacking.
pub(super) struct Unpacked {
    /// The digest of the plain tar stream.
    pub(super) diff_id: String,
    /// Bytes of all files.
    pub(super) size: u64,
}

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const OPAQUE_ATTRIBUTE: &std::ffi::CStr = c"trusted.overlay.opaque";

/// Reads a layer as plain tar whatever its compression, by its first bytes.
pub(super) fn decompress<R: BufRead + Send + 'static>(mut reader: R) -> Result<Box<dyn Read + Send>> {
    let start = reader.fill_buf().map_err(Error::call("read layer"))?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(reader).map_err(Error::call("read layer"))?)
        }
        _ => Box::new(reader),
    })
}

/// Unpacks the plain tar stream into the empty directory `target`.
pub(super) fn unpack(stream: impl Read, target: &Path, limits: Limits) -> Result<Unpacked> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    let root = open(target, flags, Mode::empty()).map_err(Error::io("open", target))?;
    let mut layer =
        Layer { root, path: target, limits, entries: 0, bytes: 0, directory_times: BTreeMap::new() };
    let mut archive = Archive::new(Hashing { inner: stream, hash: Sha256::new() });
    archive.set_ignore_zeros(false);
    let broken = |error: io::Error| Error::Archive(format!("layer isn't a readable tar stream: {error}"));
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        layer.put(&mut entry)?;
    }
    layer.finish()?;
    let size = layer.bytes;
    // What follows the archive's end belongs to the digest too.
    let mut rest = archive.into_inner();
    let padding = io::copy(&mut (&mut rest).take(limits.bytes), &mut io::sink()).map_err(broken)?;
    if padding == limits.bytes {
        return Err(Error::Archive("layer doesn't end".into()));
    }
    Ok(Unpacked { diff_id: format!("sha256:{:x}", rest.hash.finalize()), size })
}

struct Layer<'a> {
    root: OwnedFd,
    path: &'a Path,
    limits: Limits,
    entries: u64,
    bytes: u64,
    /// Set last, because every file put into a directory changes its time.
    directory_times: BTreeMap<PathBuf, TimeSpec>,
}

/// The attributes that all kinds of entries have.
struct Attributes {
    owner: (Uid, Gid),
    mode: Mode,
    modified: TimeSpec,
    extended: Vec<(CString, Vec<u8>)>,
}

impl Layer<'_> {
    fn put<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<()> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Error::Archive(format!("layer has more than {} entries", self.limits.entries)));
        }
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let name = entry.path_bytes().into_owned();
        let path = clean(Path::new(OsStr::from_bytes(&name)))?;
        let attributes = Attributes::read(entry)?;
        let Some(file_name) = path.file_name().map(OsStr::to_owned) else {
            return self.describe_directory(PathBuf::new(), &attributes);
        };
        let parent = self.directory(path.parent().unwrap_or(Path::new("")))?;
        let at = |step| {
            let path = self.path.join(&path);
            move |error: Errno| Error::io(step, &path)(error)
        };
        let bytes = file_name.as_bytes();
        if bytes == OPAQUE {
            let directory = self.open_directory(path.parent().unwrap_or(Path::new("")))?;
            return sys::set_xattr(&directory, OPAQUE_ATTRIBUTE, b"y").map_err(Error::io("hide", &path));
        }
        if let Some(hidden) = bytes.strip_prefix(WHITEOUT) {
            return self.hide(&parent, OsStr::from_bytes(hidden), &path);
        }
        match kind {
            EntryType::Directory => {
                match mkdirat(&parent, file_name.as_os_str(), Mode::S_IRWXU) {
                    Err(Errno::EEXIST) if is_directory(&parent, &file_name) => {}
                    Err(Errno::EEXIST) => {
                        let hidden = is_whiteout(&parent, &file_name);
                        clear(&parent, &file_name).map_err(at("replace"))?;
                        mkdirat(&parent, file_name.as_os_str(), Mode::S_IRWXU)
                            .map_err(at("create directory"))?;
                        if hidden {
                            let directory = self.open_directory(&path)?;
                            sys::set_xattr(&directory, OPAQUE_ATTRIBUTE, b"y")
                                .map_err(Error::io("hide", &path))?;
                        }
                    }
                    other => other.map_err(at("create directory"))?,
                }
                self.describe_directory(path, &attributes)
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                clear(&parent, &file_name).map_err(at("replace"))?;
                let flags =
                    OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                let file = openat(&parent, file_name.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)
                    .map_err(at("create"))?;
                let mut file = File::from(file);
                self.copy(entry, &mut file, &path)?;
                self.describe(&file, &attributes, &path)
            }
            EntryType::Link => {
                let link = entry.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default();
                let link = clean(Path::new(OsStr::from_bytes(&link)))?;
                let source = self
                    .resolve(&link, OFlag::O_PATH | OFlag::O_NOFOLLOW)
                    .map_err(at("find link's target of"))?;
                clear(&parent, &file_name).map_err(at("replace"))?;
                linkat(&source, "", &parent, file_name.as_os_str(), AtFlags::AT_EMPTY_PATH)
                    .map_err(at("link"))
            }
            EntryType::Symlink => {
                let link = entry.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default();
                clear(&parent, &file_name).map_err(at("replace"))?;
                symlinkat(OsStr::from_bytes(&link), &parent, file_name.as_os_str()).map_err(at("link"))?;
                let (uid, gid) = attributes.owner;
                fchownat(&parent, file_name.as_os_str(), Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
                    .map_err(at("give away"))?;
                let time = &attributes.modified;
                utimensat(&parent, file_name.as_os_str(), time, time, UtimensatFlags::NoFollowSymlink)
                    .map_err(at("date"))
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                clear(&parent, &file_name).map_err(at("replace"))?;
                let (kind, device) = match kind {
                    EntryType::Fifo => (SFlag::S_IFIFO, 0),
                    other => {
                        let header = entry.header();
                        let number = |value: io::Result<Option<u32>>| value.ok().flatten().unwrap_or(0);
                        let device =
                            libc::makedev(number(header.device_major()), number(header.device_minor()));
                        (if other == EntryType::Char { SFlag::S_IFCHR } else { SFlag::S_IFBLK }, device)
                    }
                };
                mknodat(&parent, file_name.as_os_str(), kind, attributes.mode, device)
                    .map_err(at("make device"))?;
                let (uid, gid) = attributes.owner;
                fchownat(&parent, file_name.as_os_str(), Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
                    .map_err(at("give away"))?;
                fchmodat(&parent, file_name.as_os_str(), attributes.mode, FchmodatFlags::FollowSymlink)
                    .map_err(at("set mode of"))
            }
            other => {
                Err(Error::Archive(format!("{}: entries of type {other:?} aren't known", path.display())))
            }
        }
    }

    /// Puts overlayfs' mark for "nothing is here" in place of a name that lower layers may have.
    fn hide(&self, parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<()> {
        if name.is_empty() || name == "." || name == ".." {
            return Err(Error::Archive(format!("{}: a whiteout of no file", path.display())));
        }
        match mknodat(parent, name, SFlag::S_IFCHR, Mode::empty(), 0) {
            // This layer has the name itself, which hides a file but would merge with a directory below.
            Err(Errno::EEXIST) if is_directory(parent, name) => {
                let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let directory =
                    openat(parent, name, flags, Mode::empty()).map_err(Error::io("open", path))?;
                sys::set_xattr(&directory, OPAQUE_ATTRIBUTE, b"y").map_err(Error::io("hide", path))
            }
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(error) => Err(Error::io("hide", path)(error)),
        }
    }

    fn copy<R: Read>(&mut self, entry: &mut Entry<'_, R>, file: &mut File, path: &Path) -> Result<()> {
        let left = self.limits.bytes.saturating_sub(self.bytes);
        if entry.size() > left {
            return Err(Error::Archive(format!("layer is larger than {} bytes", self.limits.bytes)));
        }
        let mut buffer = vec![0; 1 << 17];
        loop {
            let count = entry
                .read(&mut buffer)
                .map_err(|error| Error::Archive(format!("{}: {error}", path.display())))?;
            if count == 0 {
                return Ok(());
            }
            self.bytes += count as u64;
            file.write_all(&buffer[..count]).map_err(Error::io("write", path))?;
        }
    }

    fn describe(&self, file: &impl AsFd, attributes: &Attributes, path: &Path) -> Result<()> {
        let (uid, gid) = attributes.owner;
        let at = |step| move |error: Errno| Error::io(step, path)(error);
        nix::unistd::fchown(file.as_fd(), Some(uid), Some(gid)).map_err(at("give away"))?;
        // After the owner, since changing that drops the set-user-ID bit and file capabilities.
        fchmod(file, attributes.mode).map_err(at("set mode of"))?;
        for (name, value) in &attributes.extended {
            sys::set_xattr(file, name, value).map_err(Error::io("set attribute of", path))?;
        }
        nix::sys::stat::futimens(file, &attributes.modified, &attributes.modified).map_err(at("date"))
    }

    fn describe_directory(&mut self, path: PathBuf, attributes: &Attributes) -> Result<()> {
        let directory = self.open_directory(&path)?;
        self.describe(&directory, attributes, &path)?;
        self.directory_times.insert(path, attributes.modified);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        for (path, time) in std::mem::take(&mut self.directory_times) {
            match self.open_directory(&path) {
                Ok(directory) => {
                    nix::sys::stat::futimens(&directory, &time, &time).map_err(Error::io("date", &path))?;
                }
                // A later entry of the same layer put something else in its place.
                Err(Error::Io { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn resolve(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        loop {
            match openat2(&self.root, path, how) {
                // The kernel saw a rename in the tree and asks to look again.
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                other => return other,
            }
        }
    }

    fn open_directory(&self, path: &Path) -> Result<OwnedFd> {
        self.resolve(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
            .map_err(Error::io("open", &self.path.join(path)))
    }

    /// The directory at `path`, made with its parents where the stream left them out.
    fn directory(&self, path: &Path) -> Result<OwnedFd> {
        match self.resolve(path, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Err(Errno::ENOENT) => {}
            other => return other.map_err(Error::io("open", &self.path.join(path))),
        }
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::Archive(format!("{} can't be made", path.display())));
        };
        let parent = self.directory(above)?;
        match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(Error::io("create directory", &self.path.join(path))(error)),
        }
        self.resolve(path, OFlag::O_PATH | OFlag::O_DIRECTORY)
            .map_err(Error::io("open", &self.path.join(path)))
    }
}

impl Attributes {
    fn read<R: Read>(entry: &mut Entry<'_, R>) -> Result<Self> {
        let unreadable = |error: io::Error| Error::Archive(format!("entry's header: {error}"));
        let mut extended = Vec::new();
        if let Some(extensions) = entry.pax_extensions().map_err(unreadable)? {
            for extension in extensions {
                let extension = extension.map_err(unreadable)?;
                let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
                // Others steer the host (overlayfs' own marks, labels) and aren't the image's to set.
                if name == b"security.capability" || name.starts_with(b"user.") {
                    let name = sys::c_string(name).map_err(unreadable)?;
                    extended.push((name, extension.value_bytes().to_vec()));
                }
            }
        }
        let header = entry.header();
        let id = |value: io::Result<u64>| -> Result<u32> {
            let value = value.map_err(unreadable)?;
            u32::try_from(value).map_err(|_| Error::Archive(format!("owner {value} is out of range")))
        };
        let modified = i64::try_from(header.mtime().map_err(unreadable)?).unwrap_or(0);
        Ok(Self {
            owner: (Uid::from_raw(id(header.uid())?), Gid::from_raw(id(header.gid())?)),
            mode: Mode::from_bits_truncate(header.mode().map_err(unreadable)? & 0o7777),
            modified: TimeSpec::new(modified, 0),
            extended,
        })
    }
}

/// The path relative to the layer's root; one with `..` in it is refused.
fn clean(path: &Path) -> Result<PathBuf> {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => cleaned.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::Archive(format!("{} leads out of the layer", path.display())));
            }
        }
    }
    Ok(cleaned)
}

fn look(parent: &OwnedFd, name: &OsStr) -> Option<nix::sys::stat::FileStat> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty()).and_then(|file| fstat(&file)).ok()
}

fn is_directory(parent: &OwnedFd, name: &OsStr) -> bool {
    look(parent, name).is_some_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

fn is_whiteout(parent: &OwnedFd, name: &OsStr) -> bool {
    look(parent, name).is_some_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == 0)
}

/// Makes way for an entry that a later one of the same name replaces.
fn clear(parent: &OwnedFd, name: &OsStr) -> nix::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR | Errno::EPERM) if is_directory(parent, name) => {
            let inside = format!("/proc/self/fd/{}", parent.as_raw_fd());
            std::fs::remove_dir_all(Path::new(&inside).join(name))
                .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
        }
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;

//! A disk that loses power as real ones do: what was not flushed may be gone, whole, in parts, out of order.
//!
//! It is served to a virtual machine by the NBD protocol (the "fixed newstyle" handshake and simple replies of
//! <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>) on a socket of its own.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    os::unix::{
        fs::FileExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use rand::{Rng, rngs::SmallRng};

/// What a disk writes whole or not at all. Smaller ones tear ext4's own superblock.
pub(super) const SECTOR: usize = 4096;
/// The largest request that is read into memory.
const LARGEST: u32 = 32 << 20;

const OPTION_MAGIC: u64 = 0x4948_4156_454F_5054;
const OPTION_GO: u32 = 7;
const OPTION_ABORT: u32 = 2;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = (1 << 31) + 1;
const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
const FORCE_UNIT_ACCESS: u16 = 1;

/// A disk with an ext4 file system in it.
pub struct Disk {
    socket: PathBuf,
    listener: UnixListener,
    state: Arc<Mutex<State>>,
}

struct State {
    size: u64,
    /// What is on the disk as its user sees it, and what of it power loss cannot take.
    seen: File,
    durable: File,
    /// What was written since the last flush.
    cached: Vec<(u64, Vec<u8>)>,
    /// How many requests are answered before power fails.
    life: Option<u64>,
    failed: bool,
}

impl Disk {
    /// Makes a disk of `size` bytes; its socket lies in `dir`.
    pub fn format(dir: &Path, size: u64) -> Result<Self> {
        let (seen, durable) = (tempfile::NamedTempFile::new_in(dir)?, tempfile::tempfile_in(dir)?);
        seen.as_file().set_len(size)?;
        durable.set_len(size)?;
        crate::text(
            Command::new("mkfs.ext4").args(["-q", "-F", "-b", &SECTOR.to_string()]).arg(seen.path()),
        )?;
        let mut content = vec![0; 1 << 20];
        for at in (0..size).step_by(content.len()) {
            let length = content.len().min(usize::try_from(size - at)?);
            seen.as_file().read_exact_at(&mut content[..length], at)?;
            if content[..length].iter().any(|b| *b != 0) {
                durable.write_all_at(&content[..length], at)?;
            }
        }
        let socket = dir.join("disk.socket");
        let listener =
            UnixListener::bind(&socket).with_context(|| format!("listening on {}", socket.display()))?;
        let state =
            State { size, seen: seen.into_file(), durable, cached: Vec::new(), life: None, failed: false };
        Ok(Self { socket, listener, state: Arc::new(Mutex::new(state)) })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Serves the next connection until it ends.
    pub fn serve(&self) -> Result<()> {
        let (listener, state) = (self.listener.try_clone()?, Arc::clone(&self.state));
        std::thread::spawn(move || {
            let served = listener.accept().and_then(|(stream, _)| Connection::new(stream, &state)?.serve());
            if let Err(error) = served {
                // Also how a machine ends that is killed in the middle of a request.
                eprintln!("the disk's connection ended: {error}");
            }
        });
        Ok(())
    }

    /// Lets power fail after so many more requests.
    pub fn fail_after(&self, requests: u64) {
        self.state.lock().life = Some(requests);
    }

    pub fn has_failed(&self) -> bool {
        self.state.lock().failed
    }

    /// Gives power back to a disk that has forgotten what it may: returns how many bytes that were. The machine
    /// must have been killed.
    pub fn restore(&self, random: &mut SmallRng) -> Result<usize> {
        let mut state = self.state.lock();
        (state.life, state.failed) = (None, false);
        let cached = std::mem::take(&mut state.cached);
        let mut lost = 0;
        for (at, data) in &cached {
            for (n, sector) in data.chunks(SECTOR).enumerate() {
                if random.random() {
                    state.durable.write_all_at(sector, at + (n * SECTOR) as u64)?;
                } else {
                    lost += sector.len();
                }
            }
        }
        for (at, data) in &cached {
            let mut kept = vec![0; data.len()];
            state.durable.read_exact_at(&mut kept, *at)?;
            state.seen.write_all_at(&kept, *at)?;
        }
        Ok(lost)
    }
}

impl State {
    fn flush(&mut self) -> io::Result<()> {
        for (at, data) in self.cached.drain(..) {
            self.durable.write_all_at(&data, at)?;
        }
        Ok(())
    }
}

struct Connection<'a> {
    input: BufReader<UnixStream>,
    output: UnixStream,
    state: &'a Mutex<State>,
}

impl<'a> Connection<'a> {
    fn new(stream: UnixStream, state: &'a Mutex<State>) -> io::Result<Self> {
        let output = stream.try_clone()?;
        Ok(Self { input: BufReader::new(stream), output, state })
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn serve(mut self) -> io::Result<()> {
        if !self.negotiate()? {
            return Ok(());
        }
        loop {
            let magic = u32::from_be_bytes(self.take()?);
            let flags = u16::from_be_bytes(self.take()?);
            let command = u16::from_be_bytes(self.take()?);
            let handle: [u8; 8] = self.take()?;
            let at = u64::from_be_bytes(self.take()?);
            let length = u32::from_be_bytes(self.take()?);
            if magic != 0x2560_9513 || length > LARGEST {
                return Err(io::Error::other("this is no request"));
            }
            let mut data = vec![0; length as usize];
            if command == WRITE {
                self.input.read_exact(&mut data)?;
            }
            let mut state = self.state.lock();
            if let Some(life) = &mut state.life {
                let Some(less) = life.checked_sub(1) else {
                    state.failed = true;
                    drop(state);
                    // The machine is to see a disk that hangs, not one that fails, until it is killed.
                    return io::copy(&mut self.input, &mut io::sink()).map(drop);
                };
                *life = less;
            }
            match command {
                READ => state.seen.read_exact_at(&mut data, at)?,
                WRITE => {
                    state.seen.write_all_at(&data, at)?;
                    state.cached.push((at, std::mem::take(&mut data)));
                    if flags & FORCE_UNIT_ACCESS != 0 {
                        state.flush()?;
                    }
                }
                FLUSH => state.flush()?,
                DISCONNECT => return Ok(()),
                _ => return Err(io::Error::other("a request that was not offered")),
            }
            drop(state);
            let mut reply = Vec::with_capacity(16 + data.len());
            reply.extend(0x6744_6698_u32.to_be_bytes());
            reply.extend(0_u32.to_be_bytes());
            reply.extend(handle);
            if command == READ {
                reply.extend(data);
            }
            self.output.write_all(&reply)?;
        }
    }

    /// Whether the client wants the disk.
    fn negotiate(&mut self) -> io::Result<bool> {
        // Fixed newstyle, and no padding after the answer.
        self.output.write_all(b"NBDMAGICIHAVEOPT\0\x03")?;
        let _flags: [u8; 4] = self.take()?;
        loop {
            let magic = u64::from_be_bytes(self.take()?);
            let option = u32::from_be_bytes(self.take()?);
            let length = u32::from_be_bytes(self.take()?);
            if magic != OPTION_MAGIC || length > LARGEST {
                return Err(io::Error::other("this is no option"));
            }
            let mut data = vec![0; length as usize];
            self.input.read_exact(&mut data)?;
            let mut reply = |kind: u32, data: &[u8]| {
                let mut bytes = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
                bytes.extend(option.to_be_bytes());
                bytes.extend(kind.to_be_bytes());
                bytes.extend(u32::try_from(data.len()).map_err(io::Error::other)?.to_be_bytes());
                bytes.extend(data);
                self.output.write_all(&bytes)
            };
            match option {
                OPTION_GO => {
                    let mut export = 0_u16.to_be_bytes().to_vec();
                    export.extend(self.state.lock().size.to_be_bytes());
                    // It has flags, can flush, and can force a unit's access.
                    export.extend((1_u16 | 1 << 2 | 1 << 3).to_be_bytes());
                    reply(REPLY_INFO, &export)?;
                    reply(REPLY_ACK, &[])?;
                    return Ok(true);
                }
                OPTION_ABORT => {
                    reply(REPLY_ACK, &[])?;
                    return Ok(false);
                }
                _ => reply(REPLY_UNSUPPORTED, &[])?,
            }
        }
    }
}

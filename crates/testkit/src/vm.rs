//! A small virtual machine: another kernel, a disk whose power can be cut, and a shell on the other side.

pub mod disk;
mod initramfs;

use std::{
    ffi::OsString,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use self::{disk::Disk, initramfs::Initramfs};

/// How long a command in the machine may say nothing. Emulation without hardware is some twenty times slower.
const PATIENCE: Duration = Duration::from_secs(120);
/// The modules that a machine brings, by their folder in the kernel's tree.
const MODULES: [&str; 12] = [
    "drivers/block/virtio",
    "drivers/char/virtio",
    "drivers/net/net_failover",
    "drivers/net/veth",
    "drivers/net/virtio",
    "drivers/virtio/",
    "fs/overlayfs/",
    "lib/",
    "net/",
    "crypto/",
    "arch/x86/crypto/crc32c",
    "modules.",
];

/// What every machine of a test boots: a kernel with its modules, busybox, and the programs of the test.
pub struct Image {
    dir: tempfile::TempDir,
    /// Packages unpacked.
    packages: PathBuf,
    kernel: PathBuf,
}

impl Image {
    /// Makes an image with programs of the host, each `(name in /bin, path on the host)`.
    ///
    /// # Errors
    /// `TIPHYS_VM` must name a folder as `cargo xtask test` makes it, with the packages of qemu and of a
    /// kernel unpacked.
    pub fn make(programs: &[(&str, &Path)]) -> Result<Self> {
        let packages = std::env::var_os("TIPHYS_VM")
            .context("TIPHYS_VM is not set; run this with `cargo xtask test --only vm`")?;
        let packages = PathBuf::from(packages);
        let dir = tempfile::Builder::new().prefix("tiphys-vm-").tempdir_in("/var/tmp")?;
        let modules = packages.join("lib/modules");
        let release = std::fs::read_dir(&modules)
            .with_context(|| format!("reading {}", modules.display()))?
            .next()
            .context("there is no kernel")??
            .file_name()
            .into_string()
            .map_err(|name| anyhow::anyhow!("the kernel's name is {name:?}"))?;
        let kernel = packages.join("boot").join(format!("vmlinuz-{release}"));

        let mut archive = Initramfs::new(File::create(dir.path().join("initramfs"))?);
        archive.file("init", 0o755, include_bytes!("vm/init.sh"))?;
        archive.folder("etc")?;
        archive.folder("bin")?;
        for (name, path) in [("busybox", Path::new("/bin/busybox"))].iter().chain(programs) {
            let program = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            archive.file(&format!("bin/{name}"), 0o755, &program)?;
        }
        let tree = format!("lib/modules/{release}");
        archive.folder("lib")?;
        archive.folder("lib/modules")?;
        archive.tree(&tree, &modules.join(&release), &|name| {
            let inside = name.strip_prefix(&tree).unwrap_or(name).trim_start_matches('/');
            let inside = inside.strip_prefix("kernel/").unwrap_or(inside);
            MODULES.iter().any(|wanted| inside.starts_with(wanted))
        })?;
        archive.finish()?;
        Ok(Self { dir, packages, kernel })
    }

    /// A folder that goes with the image.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// qemu, which ends with the test however that ends.
    fn qemu(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        let own = self.packages.join("usr/bin/qemu-system-x86_64");
        if !own.exists() {
            command.arg("qemu-system-x86_64");
            return command;
        }
        let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|l| self.packages.join(l));
        let path: OsString = std::env::join_paths(libraries).unwrap_or_default();
        command.arg(own).env("LD_LIBRARY_PATH", path);
        for firmware in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(self.packages.join(firmware));
        }
        command
    }

    /// Boots a machine with `memory` MiB and waits for its shell.
    ///
    /// `forwarded` gives it a network interface whose only way out is that a port of the host's loopback
    /// leads to one of the machine: `(host's, machine's)`.
    pub fn boot(&self, memory: u32, disk: &Disk, forwarded: Option<(u16, u16)>) -> Result<Machine> {
        disk.serve()?;
        let console = self.dir.path().join("console");
        let mut qemu = self.qemu();
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", &memory.to_string()])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(self.dir.path().join("initramfs"))
            // A busy host lets the kernel doubt its timers and its processors.
            .args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check nowatchdog tsc=nowatchdog"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .args(["-chardev", "stdio,id=port,signal=off", "-device", "virtio-serial-pci"])
            .args(["-device", "virtserialport,chardev=port,name=port"])
            .arg("-blockdev")
            .arg(format!(
                "driver=nbd,node-name=disk,server.type=unix,server.path={}",
                disk.socket().display()
            ))
            .arg("-device")
            .arg(format!(
                "virtio-blk-pci,drive=disk,logical_block_size={0},physical_block_size={0}",
                disk::SECTOR
            ));
        if let Some((host, machine)) = forwarded {
            qemu.arg("-netdev")
                .arg(format!("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{host}-:{machine}"))
                .args(["-device", "virtio-net-pci,netdev=net,romfile="]);
        }
        let mut child = qemu
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(self.dir.path().join("qemu.log"))?)
            .spawn()
            .context("starting qemu")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (tell, lines) = mpsc::channel();
        let mut output = BufReader::new(output.context("qemu's output")?);
        std::thread::spawn(move || {
            let mut line = String::new();
            // A line without an end was cut by the end of the machine.
            while output.read_line(&mut line).is_ok_and(|n| n > 0) && line.ends_with('\n') {
                if tell.send(line.trim_end().to_owned()).is_err() {
                    break;
                }
                line.clear();
            }
        });
        let mut machine =
            Machine { child, input: input.context("qemu's input")?, lines, dir: self.dir.path().into() };
        machine.run("true").context("booting the machine")?;
        Ok(machine)
    }
}

/// A running machine; it loses power when it is dropped.
pub struct Machine {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    dir: PathBuf,
}

impl Machine {
    /// Gives the machine's shell something to do.
    pub fn send(&mut self, command: &str) -> Result<()> {
        writeln!(self.input, "{command}").context("writing to the machine")
    }

    /// The next line that the machine says, if it says one within `patience`.
    ///
    /// # Errors
    /// The machine has ended; tells its last words.
    pub fn poll(&mut self, patience: Duration) -> Result<Option<String>> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the machine has ended\n{}", self.last_words()),
        }
    }

    fn line(&mut self) -> Result<String> {
        self.poll(PATIENCE)?.with_context(|| format!("the machine says nothing\n{}", self.last_words()))
    }

    fn last_words(&self) -> String {
        let read = |name| std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        let (console, qemu) = (read("console"), read("qemu.log"));
        let begin = console.lines().count().saturating_sub(40);
        let tail: Vec<_> = console.lines().skip(begin).collect();
        format!("{qemu}\nits console ends:\n{}", tail.join("\n"))
    }

    /// Runs commands; returns what they print, with their errors.
    ///
    /// # Errors
    /// The last of them must succeed.
    pub fn run(&mut self, command: &str) -> Result<String> {
        self.send(&format!("{{ {command}\n}} 2>&1 </dev/null; echo \"-- ended: $?\""))?;
        let mut said = String::new();
        loop {
            let line = self.line().with_context(|| format!("running {command}\n{said}"))?;
            // What ends without a newline is followed by the end on the same line.
            if let Some((rest, status)) = line.split_once("-- ended: ") {
                said += rest;
                ensure!(status == "0", "{command}: exit status {status}\n{said}");
                return Ok(said);
            }
            said += &line;
            said.push('\n');
        }
    }

    /// Waits until a command succeeds.
    pub fn eventually(&mut self, command: &str) -> Result<String> {
        let begun = Instant::now();
        loop {
            match self.run(command) {
                Ok(said) => return Ok(said),
                Err(error) if begun.elapsed() > PATIENCE => bail!(error),
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// Takes the power away; returns the lines that nobody has read yet.
    pub fn kill(mut self) -> Result<Vec<String>> {
        self.child.kill().context("killing qemu")?;
        self.child.wait().context("waiting for qemu")?;
        Ok(self.lines.iter().collect())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

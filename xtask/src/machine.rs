//! The virtual machine of the tests: its packages, and what runs in it.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::{
    binary,
    command::{cargo, output, root, run},
    host,
};

/// Unpacks qemu, what it needs that the host lacks, and a kernel into the target folder; returns that folder.
/// Nothing but the program that formats its disk is installed on the host.
pub(crate) fn packages() -> Result<PathBuf> {
    host::packages(&[("e2fsprogs", "/usr/sbin/mkfs.ext4")])?;
    // The number counts the changes of this recipe.
    let home = host::once("vm", "qemu and a kernel, 1", |home| {
        let (archives, root) = (home.join("archives"), home.join("root"));
        for folder in [&archives.join("partial"), &root] {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let mut place = std::ffi::OsString::from("Dir::Cache::archives=");
        place.push(&archives);
        run(Command::new("apt-get").args(["-qq", "update"]))?;
        run(Command::new("apt-get")
            .args(["-qq", "-y", "--download-only", "--no-install-recommends", "-o"])
            .arg(place)
            .args(["install", "qemu-system-x86"]))?;
        // Without what it depends on, which is there to install it.
        let depends = output(Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]));
        let kernel =
            depends.as_deref().and_then(|text| text.split_once("Depends: ")?.1.split_whitespace().next());
        let kernel = kernel.context("apt-cache knows no linux-image-cloud-amd64")?;
        run(Command::new("apt-get").args(["-qq", "download", kernel]).current_dir(&archives))?;
        for archive in std::fs::read_dir(&archives).context("reading the archives")? {
            let archive = archive?.path();
            if archive.extension().is_some_and(|e| e == "deb") {
                run(Command::new("dpkg-deb").arg("--extract").arg(archive).arg(&root))?;
            }
        }
        std::fs::remove_dir_all(&archives).context("removing the archives")?;
        for release in std::fs::read_dir(root.join("lib/modules")).context("reading the kernel's modules")? {
            run(Command::new("busybox").args(["depmod", "-b"]).arg(&root).arg(release?.file_name()))?;
        }
        Ok(())
    })?;
    Ok(home.join("root"))
}

/// Builds the store's crash test as the binary is built, so that it runs where no library is.
pub(crate) fn crash_test() -> Result<PathBuf> {
    let mut build = cargo();
    build
        .current_dir(root()?)
        .args(["test", "--release", "--locked", "--package", "tiphys-store", "--test", "crash", "--no-run"])
        .args(["--target", &binary::triple()?])
        .env("RUSTFLAGS", binary::FLAGS);
    run(&mut build)?;
    let built = output(build.arg("--message-format=json")).context("asking cargo for the crash test")?;
    let mut messages = built.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let path = messages.find_map(|message| message.get("executable")?.as_str().map(PathBuf::from));
    path.context("cargo names no executable of the crash test")
}

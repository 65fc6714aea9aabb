//! The binary as it is shipped: laid out for what it does most.
//!
//! It is built with counters, a client of the bench works with it, and what was counted tells the compiler which paths
//! are taken, so that those lie together and the rest is out of the way.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    bench, binary,
    command::{output, run, target},
};

/// What the binary is trained with: requests of all sorts, watches, controllers and the scheduler.
const TRAINING: [&str; 3] = ["api", "scheduling", "nodes=500"];

/// By default a binary that counts keeps what nothing calls, among it functions of `nix` that call what a static glibc does
/// not have.
const NOTHING_DEAD: &str = "-Wl,--gc-sections";

/// Builds, trains and builds again; the binary that comes of it.
pub(crate) fn build() -> Result<PathBuf> {
    let home = target()?.join("dist");
    let counts = home.join("counts");
    if counts.exists() {
        // Counts of another build would be taken for some of this one.
        fs::remove_dir_all(&counts).with_context(|| format!("removing {}", counts.display()))?;
    }
    fs::create_dir_all(&counts).with_context(|| format!("making {}", counts.display()))?;
    let counting = home.join("counting");
    let built = binary::compile(&format!("-C profile-generate={}", counts.display()), &[NOTHING_DEAD])?;
    fs::copy(&built, &counting).context("keeping the binary that counts")?;
    bench::client(&counting, &TRAINING.map(str::to_owned))?;
    let merged = home.join("merged.profdata");
    merge(&counts, &merged)?;
    let built = binary::compile(&format!("-C profile-use={}", merged.display()), &[])?;
    let binary = home.join("tiphys");
    fs::copy(&built, &binary).context("keeping the binary")?;
    Ok(binary)
}

fn merge(counts: &Path, merged: &Path) -> Result<()> {
    let counted = fs::read_dir(counts).context("looking for counts")?.count();
    ensure!(counted > 0, "the training left no counts in {}", counts.display());
    run(Command::new(profdata()?).args(["merge", "-o"]).arg(merged).arg(counts))
}

/// The compiler's own tool for counts, which rustup installs where it is missing.
fn profdata() -> Result<PathBuf> {
    let sysroot =
        output(Command::new("rustc").args(["--print", "sysroot"])).context("asking for the sysroot")?;
    let tool = Path::new(&sysroot).join("lib/rustlib").join(binary::triple()?).join("bin/llvm-profdata");
    if !tool.exists() {
        run(Command::new("rustup").args(["component", "add", "llvm-tools"]))?;
    }
    if !tool.exists() {
        bail!("there is no {}; install rustup's component llvm-tools", tool.display());
    }
    Ok(tool)
}

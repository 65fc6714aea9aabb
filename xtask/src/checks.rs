//! What a change must pass. The laptop and CI run the same steps.

use std::{process::Command, time::Instant};

use anyhow::{Context, Result, bail};

use crate::{
    binary, clients,
    command::{cargo, output, root, run},
    fuzz, host, machine, simulate,
};

type Step = (&'static str, &'static str, fn() -> Result<()>);

/// In the order they run: the quick ones first.
const STEPS: [Step; 9] = [
    ("format", "rustfmt has nothing to change", format),
    ("dependencies", "licences, sources and bans of dependencies are as deny.toml says", dependencies),
    ("lint", "clippy has nothing to say", lint),
    ("unit", "unit, property and integration tests of every crate", unit),
    ("fuzz", "what reads clients' input, with what libFuzzer thinks of", fuzz::gate),
    ("simulation", "the whole control plane, played from seeds", simulate::gate),
    ("binary", "the release binary builds and is static", || binary::build().map(drop)),
    ("scenario", "the binary, real kubectl, real containers", scenario),
    ("vm", "loss of power, and a host with another kernel and cgroup v2", vm),
];

pub(crate) fn all(only: &[String]) -> Result<()> {
    if let Some(unknown) = only.iter().find(|name| STEPS.iter().all(|(step, ..)| step != name)) {
        let known: Vec<_> = STEPS.iter().map(|(step, ..)| *step).collect();
        bail!("no step is named {unknown}; there are {}", known.join(", "));
    }
    host::build_packages()?;
    host::test_packages()?;
    for (name, promise, step) in STEPS {
        if !only.is_empty() && !only.iter().any(|o| o == name) {
            continue;
        }
        let start = Instant::now();
        eprintln!("== {name}: {promise}");
        step().with_context(|| format!("the step {name} failed"))?;
        eprintln!("== {name}: done in {} s", start.elapsed().as_secs());
    }
    Ok(())
}

fn workspace_cargo() -> Result<Command> {
    let mut command = cargo();
    command.current_dir(root()?);
    Ok(command)
}

fn format() -> Result<()> {
    run(workspace_cargo()?.args(["fmt", "--all", "--check"]))
}

fn lint() -> Result<()> {
    run(workspace_cargo()?.args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))
}

/// Advisories need a database that is fetched from a forge; they are checked where one is present.
fn dependencies() -> Result<()> {
    run(Command::new(host::cargo_deny()?).current_dir(root()?).args(["check", "licenses", "bans", "sources"]))
}

fn nextest(arguments: &[&str]) -> Result<Command> {
    if output(cargo().args(["nextest", "--version"])).is_none() {
        run(cargo().args(["install", "--locked", "cargo-nextest"]))?;
    }
    let mut command = workspace_cargo()?;
    command.args(["nextest", "run", "--locked"]).args(arguments);
    Ok(command)
}

fn unit() -> Result<()> {
    run(&mut nextest(&["--workspace", "--exclude", "tiphys-testkit"])?)
}

/// The scenarios boot the release binary one at a time, each on ports and networks of its own.
fn scenario() -> Result<()> {
    let binary = binary::build()?;
    let kubectl = host::kubectl()?;
    let mut tests =
        nextest(&["--package", "tiphys-testkit", "--filterset", "not binary(vm)", "--test-threads", "1"])?;
    clients::tell(&mut tests)?;
    run(tests.env("TIPHYS_BINARY", binary).env("KUBECTL", kubectl))
}

/// Machines are emulated, so that they need neither rights nor hardware.
fn vm() -> Result<()> {
    let packages = match machine::packages() {
        Ok(packages) => packages,
        Err(error) => {
            eprintln!("skipped, since qemu or a kernel for it cannot be had: {error:#}");
            return Ok(());
        }
    };
    let (binary, crash, kubectl) = (binary::build()?, machine::crash_test()?, host::kubectl()?);
    let mut tests =
        nextest(&["--package", "tiphys-testkit", "--filterset", "binary(vm)", "--test-threads", "1"])?;
    run(tests
        .env("TIPHYS_VM", packages)
        .env("TIPHYS_BINARY", binary)
        .env("TIPHYS_CRASH_TEST", crash)
        .env("KUBECTL", kubectl))
}

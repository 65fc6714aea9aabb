//! What needs another kernel, or a machine that loses power.

use std::{
    env,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tiphys_testkit::{
    image::Image as BusyboxImage,
    vm::{Image, Machine, disk::Disk},
};

fn program(variable: &str) -> Result<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .with_context(|| format!("{variable} is not set; run this with `cargo xtask test --only vm`"))
}

/// The store's own crash test writes in a machine whose disk loses power at some request; in its next life it
/// looks whether all that it told the world is there.
///
/// Each fourth time, power is lost again while the machine boots, recovers and verifies.
#[test]
fn loss_of_power_takes_nothing_that_was_acknowledged() -> Result<()> {
    const LOSSES: u64 = 12;
    const WRITE: &str = "export TIPHYS_CRASH_TEST_DIR=/data/store TIPHYS_CRASH_TEST_HISTORY=/history; \
                         crash child --exact --nocapture --test-threads=1";
    const PATIENCE: Duration = Duration::from_secs(180);
    let seed = match env::var("TIPHYS_VM_SEED") {
        Ok(seed) => seed.parse().context("TIPHYS_VM_SEED")?,
        Err(_) => rand::random(),
    };
    println!("TIPHYS_VM_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let image = Image::make(&[("crash", &program("TIPHYS_CRASH_TEST")?)])?;
    let disk = Disk::format(image.dir(), 1 << 30)?;
    let (mut history, mut lost) = (String::new(), 0);
    for life in 0..=LOSSES {
        let mut machine = image.boot(384, &disk, None)?;
        machine.run(&format!("cat >/history <<'END'\n{history}END"))?;
        let early = life % 4 == 3;
        if early {
            disk.fail_after(random.random_range(0..400));
        }
        machine.send(&format!(
            "{{ mount /dev/vda /data && {WRITE} || dmesg | tail -20; }} 2>&1; echo -- ended"
        ))?;
        let begun = Instant::now();
        while !disk.has_failed() {
            ensure!(begun.elapsed() < PATIENCE, "the machine of life {life} is too slow\n{history}");
            let Some(line) = machine.poll(Duration::from_millis(100))? else { continue };
            history += &format!("{line}\n");
            ensure!(
                !line.contains("-- ended"),
                "life {life} did not find what the world was told:\n{}",
                history.lines().filter(|line| !line.contains("acknowledged ")).collect::<Vec<_>>().join("\n")
            );
            if line.contains("verified ") {
                if life == LOSSES {
                    let told = history.matches("acknowledged ").count();
                    println!("{LOSSES} losses of power took {lost} bytes, and none of {told} transactions");
                    ensure!(told > 0, "nothing was acknowledged");
                    return Ok(());
                }
                if !early {
                    disk.fail_after(random.random_range(0..1500));
                }
            }
        }
        history.extend(machine.kill()?.iter().map(|line| format!("{line}\n")));
        lost += disk.restore(&mut random)?;
    }
    bail!("the last life was cut short")
}

/// What a cluster has made and `down` has to remove, one a line. A cgroup, a mount or a link counts by its
/// name, nftables' tables by the modules that rules hold, beside the modules that do.
const LEFT: &str = "find /sys/fs/cgroup -mindepth 1 -type d
    grep -E 'tiphys|/data/' /proc/mounts
    ip -o link | grep -v ' lo: ' | grep -v ' eth0: '
    awk '/^nft_/ && $3 > gsub(\",\", \"\", $4)' /proc/modules
    ls /run/netns 2>/dev/null
    pidof tiphys";

fn nothing_is_left(machine: &mut Machine) -> Result<()> {
    machine.eventually(&format!("left=$({LEFT})\n[ -z \"$left\" ] || {{ echo \"$left\"; false; }}")).map(drop)
}

/// A host as Debian 12 makes it, but without a way out: only `lo`, every kernel module still to be loaded.
#[test]
fn quickstart_works_on_cgroup_v2_with_nothing_but_lo() -> Result<()> {
    let image = Image::make(&[("tiphys", &program("TIPHYS_BINARY")?)])?;
    let disk = Disk::format(image.dir(), 2 << 30)?;
    let mut machine = image.boot(1536, &disk, None)?;
    machine.run("mount /dev/vda /data")?;
    println!("{}", machine.run("tiphys quickstart --data-dir /data/quickstart")?);
    nothing_is_left(&mut machine)
}

const PODS: &str = r#"
{apiVersion: v1, kind: Pod, metadata: {name: guaranteed}, spec: {containers: [
  {name: c, image: "busybox:1", resources: {limits: {cpu: 500m, memory: 64Mi}}}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: burstable}, spec: {containers: [
  {name: c, image: "busybox:1", resources: {requests: {cpu: 250m}}}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: besteffort}, spec: {containers: [{name: c, image: "busybox:1"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: greedy}, spec: {restartPolicy: Never, containers: [
  {name: c, image: "busybox:1", command: [sh, -c, "head -c 200m /dev/zero | tail"],
   resources: {limits: {memory: 20Mi}}}]}}
"#;

#[test]
fn pods_have_their_limits_on_cgroup_v2() -> Result<()> {
    let archive = tempfile::NamedTempFile::new()?;
    BusyboxImage::busybox(&["busybox:1"], &["sleep", "3600"]).write(archive.as_file())?;
    let image = Image::make(&[("tiphys", &program("TIPHYS_BINARY")?), ("busybox.tar", archive.path())])?;
    let disk = Disk::format(image.dir(), 2 << 30)?;
    let port = tiphys_testkit::free_port()?;
    let mut machine = image.boot(1536, &disk, Some((port, 6443)))?;
    machine.run(
        "mount /dev/vda /data; ip address add 10.0.2.15/24 dev eth0; ip link set eth0 up
         tiphys up --data-dir /data/up >/log 2>&1 &",
    )?;
    machine.eventually("tiphys image --data-dir /data/up import /bin/busybox.tar || { cat /log; false; }")?;
    let kubeconfig = image.dir().join("kubeconfig");
    let text = machine.eventually("cat /data/up/admin.kubeconfig || { cat /log; false; }")?;
    std::fs::write(&kubeconfig, text.replace(":6443", &format!(":{port}")))?;
    let pods = image.dir().join("pods.yaml");
    std::fs::write(&pods, PODS)?;
    let kubectl = program("KUBECTL")?;
    let kubectl = |arguments: &[&str]| {
        let mut command = Command::new(&kubectl);
        tiphys_testkit::text(command.arg("--kubeconfig").arg(&kubeconfig).args(arguments))
    };
    kubectl(&["wait", "--for=create", "serviceaccount/default", "--timeout=120s"])?;
    kubectl(&["apply", "-f", &pods.to_string_lossy()])?;
    let ready = kubectl(&[
        "wait",
        "--for=condition=Ready",
        "--timeout=120s",
        "pod/guaranteed",
        "pod/burstable",
        "pod/besteffort",
    ]);
    ready.with_context(|| kubectl(&["get", "events"]).unwrap_or_default())?;

    let mut group = |pod: &str, file: &str| -> Result<String> {
        let uid = kubectl(&["get", "pod", pod, "-o", "jsonpath={.metadata.uid}"])?;
        let said = machine.run(&format!("cat $(find /sys/fs/cgroup -name pod{uid})/{file}"))?;
        Ok(said.trim().to_owned())
    };
    ensure!(group("guaranteed", "cpu.max")? == "50000 100000");
    ensure!(group("guaranteed", "memory.max")? == (64 << 20).to_string());
    // Of 250 thousandths, by KEP-2254's formula.
    ensure!(group("burstable", "cpu.weight")? == "10");
    ensure!(group("besteffort", "cpu.weight")? == "1");
    let inside = kubectl(&["exec", "guaranteed", "--", "cat", "/sys/fs/cgroup/cpu.max"])?;
    ensure!(inside == "50000 100000\n", "a container sees {inside}");

    let ended = "--for=jsonpath={.status.containerStatuses[0].state.terminated.reason}=OOMKilled";
    kubectl(&["wait", ended, "--timeout=120s", "pod/greedy"])?;
    let code = "-o=jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
    ensure!(kubectl(&["get", "pod", "greedy", code])? == "137");

    machine.run("tiphys down --data-dir /data/up")?;
    nothing_is_left(&mut machine)
}

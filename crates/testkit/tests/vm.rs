//! What needs another kernel, or a machine that loses power.

use std::{
    env,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tiphys_testkit::vm::{Image, disk::Disk};

fn program(variable: &str) -> Result<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .with_context(|| format!("{variable} is not set; run this with `cargo xtask test --only power,vm`"))
}

/// The store's own crash test writes in a machine whose disk loses power at some request; in its next life it
/// looks whether all that it told the world is there.
///
/// Each fourth time, power is lost again while the machine boots, recovers and verifies.
#[test]
fn power_loss_takes_nothing_that_was_acknowledged() -> Result<()> {
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

//! Which files of a rotated log stay.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What a full log is renamed to: its name with the time before the ending, as upstream's logs have it.
pub(super) fn backup(log: &Path, now: SystemTime) -> PathBuf {
    let now = Timestamp::try_from(now).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC);
    let (stem, ending) = parts(log);
    log.with_file_name(format!("{stem}-{}{ending}", now.strftime("%Y-%m-%dT%H-%M-%S.%3f")))
}

/// The name of a log without its ending, and the ending with its point.
fn parts(log: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let ending = log.extension().map_or_else(String::new, |_| format!(".{}", text(log.extension())));
    (text(log.file_stem()), ending)
}

/// When a file was made a backup of the log, if it is one.
fn made(log: &Path, file: &str) -> Option<Timestamp> {
    let (stem, ending) = parts(log);
    let time = file.strip_prefix(&stem)?.strip_prefix('-')?.strip_suffix(&ending)?;
    let civil = jiff::civil::DateTime::strptime("%Y-%m-%dT%H-%M-%S.%f", time).ok()?;
    civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// The backups among `files` that have to go: all but the newest `keep` of those no older than `age`. 0 and zero mean
/// without limit.
pub(super) fn expired(
    log: &Path,
    mut files: Vec<String>,
    now: SystemTime,
    keep: usize,
    age: Duration,
) -> Vec<String> {
    files.retain(|file| made(log, file).is_some());
    files.sort_by_key(|file| std::cmp::Reverse(made(log, file)));
    let now = Timestamp::try_from(now).unwrap_or(Timestamp::UNIX_EPOCH);
    let old = |file: &str| made(log, file).is_some_and(|made| now.duration_since(made).unsigned_abs() > age);
    let mut place = 0;
    files.retain(|file| {
        place += 1;
        (keep > 0 && place > keep) || (!age.is_zero() && old(file))
    });
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_newest_stay_and_the_old_go() {
        let log = Path::new("/var/audit.log");
        let day = 24 * 3600;
        let made: Vec<String> = [1, 5, 6, 7]
            .map(|n| backup(log, at(n * day)).file_name().unwrap().to_string_lossy().into_owned())
            .to_vec();
        assert_eq!(made[0], "audit-1970-01-02T00-00-00.000.log");
        let mut files = made.clone();
        files.extend([
            "audit.log".to_owned(),
            "audit-x.log".to_owned(),
            "other-1970-01-02T00-00-00.000.log".to_owned(),
        ]);
        let gone = |keep, age| expired(log, files.clone(), at(8 * day), keep, Duration::from_secs(age));
        assert_eq!(gone(0, 0), [""; 0]);
        assert_eq!(gone(2, 0), [made[1].clone(), made[0].clone()]);
        assert_eq!(gone(0, 2 * day), [made[1].clone(), made[0].clone()]);
        assert_eq!(gone(3, 5 * day), [made[0].clone()]);
    }
}

use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::*;

fn read(path: &std::path::Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// A clock that is a second later each time.
fn clock() -> Clock {
    let now = Mutex::new(SystemTime::UNIX_EPOCH);
    Arc::new(move || {
        let mut now = now.lock();
        *now += Duration::from_secs(1);
        *now
    })
}

#[test]
fn events_are_lines_that_only_the_owner_reads_and_full_logs_are_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit/audit.log");
    let options = LogOptions { path: path.clone(), max_size: 20, max_backups: 2, max_age: Duration::ZERO };
    for n in 0..5 {
        let log = Log::open(options.clone(), clock()).unwrap();
        assert!(log.take(&Bytes::from(format!("{{\"n\":{n}}}"))));
    }
    // Seven bytes and an end of line each: after three of them the log is full.
    assert_eq!(read(&path), "{\"n\":3}\n{\"n\":4}\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let files = || {
        let mut all: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().path()).collect();
        all.sort();
        all
    };
    assert_eq!(files().len(), 2);
    assert_eq!(read(&files()[0]), "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n");

    let clock = clock();
    for n in 0..20 {
        let log = Log::open(options.clone(), Arc::clone(&clock)).unwrap();
        assert!(log.take(&Bytes::from(format!("{{\"n\":{n:014}}}"))));
    }
    assert_eq!(files().len(), 3, "the log and two backups");
}

#[test]
fn what_finds_no_room_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let options =
        LogOptions { path: path.clone(), max_size: u64::MAX, max_backups: 0, max_age: Duration::ZERO };
    let log = Log::open(options, clock()).unwrap();
    assert!(!log.take(&Bytes::from(vec![b' '; WAITING_BYTES + 1])));
    assert!(log.take(&Bytes::from_static(b"{}")));
    drop(log);
    assert_eq!(read(&path), "{}\n");
}

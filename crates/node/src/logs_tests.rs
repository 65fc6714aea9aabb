use super::*;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

struct Flag(AtomicBool);

impl Alive for Flag {
    async fn alive(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

const LOG: &str = "\
2026-01-01T00:00:01Z stdout F one
2026-01-01T00:00:02Z stderr F two
2026-01-01T00:00:03Z stdout P thr
2026-01-01T00:00:03Z stdout F ee
not a line of a log
2026-01-01T00:00:04Z stdout F four
";

async fn all(options: Options) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    fs::write(&path, LOG).unwrap();
    let (tx, mut rx) = mpsc::channel(8);
    read(&path, &options, &Flag(false.into()), tx).await.unwrap();
    let mut text = Vec::new();
    while let Some(part) = rx.recv().await {
        text.extend_from_slice(&part);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn options_choose_what_is_read() {
    let default = Options::default;
    assert_eq!(all(default()).await, "one\ntwo\nthree\nfour\n");
    assert_eq!(all(Options { tail: Some(1), ..default() }).await, "four\n");
    assert_eq!(all(Options { tail: Some(0), ..default() }).await, "");
    assert_eq!(all(Options { tail: Some(100), ..default() }).await, "one\ntwo\nthree\nfour\n");
    assert_eq!(all(Options { stream: Some("stderr"), ..default() }).await, "two\n");
    let since = Some("2026-01-01T00:00:03Z".parse().unwrap());
    assert_eq!(all(Options { since, ..default() }).await, "three\nfour\n");
    assert_eq!(all(Options { limit: Some(5), ..default() }).await, "one\nt");
    assert_eq!(
        all(Options { timestamps: true, since, ..default() }).await,
        "2026-01-01T00:00:03Z three\n2026-01-01T00:00:04Z four\n"
    );
}

#[tokio::test]
async fn following_goes_on_through_a_rotation_until_the_container_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    fs::write(&path, "2026-01-01T00:00:01Z stdout F one\n").unwrap();
    let (tx, mut rx) = mpsc::channel(8);
    let alive = Arc::new(Flag(true.into()));
    let (reader, flag) = (path.clone(), alive.clone());
    let task = tokio::spawn(async move {
        let options = Options { follow: true, ..Options::default() };
        read(&reader, &options, &*flag, tx).await
    });
    assert_eq!(rx.recv().await.unwrap(), "one\n");
    let append = |text: &str| {
        let mut file = fs::File::options().create(true).append(true).open(&path).unwrap();
        writeln!(file, "2026-01-01T00:00:02Z stdout F {text}").unwrap();
    };
    append("two");
    assert_eq!(rx.recv().await.unwrap(), "two\n");
    fs::rename(&path, dir.path().join("0.log.1")).unwrap();
    append("three");
    assert_eq!(rx.recv().await.unwrap(), "three\n");
    alive.0.store(false, Ordering::Release);
    append("last");
    assert_eq!(rx.recv().await.unwrap(), "last\n");
    assert_eq!(rx.recv().await, None);
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_written_while_a_log_is_read_is_not_part_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let line = format!("2026-01-01T00:00:01Z stdout F {}\n", "x".repeat(BLOCK));
    fs::write(&path, line.repeat(8)).unwrap();
    let (tx, mut rx) = mpsc::channel(1);
    let reader = path.clone();
    let task = tokio::spawn(async move {
        let alive = Flag(true.into());
        read(&reader, &Options { tail: Some(7), ..Options::default() }, &alive, tx).await
    });
    // The reader is held up here, far from the end.
    let mut seen = rx.recv().await.unwrap().to_vec();
    let mut file = fs::File::options().append(true).open(&path).unwrap();
    file.write_all(b"2026-01-01T00:00:02Z stdout F late\n").unwrap();
    while let Some(more) = rx.recv().await {
        seen.extend_from_slice(&more);
    }
    task.await.unwrap().unwrap();
    let lines: Vec<_> = seen.split(|b| *b == b'\n').collect();
    assert_eq!(lines.len(), 8, "seven lines and the end of the last");
    assert!(!seen.ends_with(b"late\n"));
}

#[tokio::test]
async fn the_tail_is_found_across_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let line = format!("{}\n", "x".repeat(999));
    fs::write(&path, line.repeat(100)).unwrap();
    let mut file = tokio::fs::File::open(&path).await.unwrap();
    assert_eq!(tail_start(&mut file, 100_000, 50).await.unwrap(), 50_000);
    assert_eq!(tail_start(&mut file, 100_000, 101).await.unwrap(), 0);
}

#[test]
fn rotated_files_are_found_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["0.log", "0.log.20260101-000000", "0.log.20260102-000000", "1.log", "10.log"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    let names: Vec<_> = rotated(&dir.path().join("0.log"))
        .iter()
        .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, ["0.log.20260102-000000", "0.log.20260101-000000"]);
}

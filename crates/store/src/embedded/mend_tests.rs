use super::*;

#[test]
fn a_copy_is_the_same_and_as_sparse() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("a"), dir.path().join("b"));
    let mut content = vec![0; 1 << 20];
    content[..100].fill(7);
    content[70_000] = 1;
    fs::write(&from, &content).unwrap();
    copy(&from, &to).unwrap();
    assert_eq!(fs::read(&to).unwrap(), content);
    assert!(fs::metadata(&to).unwrap().blocks() * 512 < content.len() as u64 / 2);
}

/// Journals become other files with the same content, and only when nobody has the log open.
#[test]
fn journals_are_replaced_where_nobody_reads_them() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("db");
    fs::create_dir(&db).unwrap();
    fs::write(db.join("lock"), "").unwrap();
    assert_eq!(rewrite_journals(&db).unwrap_err().kind(), io::ErrorKind::NotFound);
    let files = ["1.jnl", "2.jnl", "table"].map(|name| db.join(name));
    let state = || files.clone().map(|f| (fs::metadata(&f).unwrap().ino(), fs::read(&f).unwrap()));
    files.iter().for_each(|f| fs::write(f, f.to_str().unwrap()).unwrap());
    let before = state();
    let held = File::open(db.join("lock")).unwrap();
    held.lock().unwrap();
    assert_eq!(rewrite_journals(&db).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(state(), before);
    drop(held);
    rewrite_journals(&db).unwrap();
    let after = state();
    let changed = [0, 1, 2].map(|i| (before[i].0 != after[i].0, before[i].1 == after[i].1));
    assert_eq!(changed, [(true, true), (true, true), (false, true)]);
}

#[test]
fn it_is_tried_for_about_ten_seconds() {
    let all: Duration = delays().sum();
    assert!((Duration::from_secs(8)..Duration::from_secs(12)).contains(&all));
}

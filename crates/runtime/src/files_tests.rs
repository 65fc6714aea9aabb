use super::*;

#[test]
fn a_replacement_that_fails_leaves_what_was_there_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record.json");
    write_json(&path, &1).unwrap();
    let full = |_: &fs::File| Err(io::Error::from_raw_os_error(Errno::ENOSPC as i32));
    let error = replace(&path, b"2", full).unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
    assert_eq!(read_json::<u8>(&path).unwrap(), 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

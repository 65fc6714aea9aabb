use super::*;

#[test]
fn a_working_directory_is_made_inside_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("real")).unwrap();
    std::os::unix::fs::symlink("/real", root.join("link")).unwrap();
    std::os::unix::fs::symlink("../../..", root.join("up")).unwrap();
    make_inside(&root, "/link/a/b".as_ref()).unwrap();
    assert!(root.join("real/a/b").is_dir());
    make_inside(&root, "/up/made".as_ref()).unwrap();
    assert!(root.join("made").is_dir() && !dir.path().join("made").exists());
    std::fs::write(root.join("file"), "").unwrap();
    assert!(make_inside(&root, "/file/below".as_ref()).is_err());
}

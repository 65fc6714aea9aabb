use std::fs;

use nix::sys::stat::{Mode, SFlag, mknod};

use super::mount_overlay;
use crate::image::store::short;

#[test]
fn many_layers_are_mounted_the_highest_on_top() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: mounting needs root");
        return;
    }
    // Not below /tmp, which may be a file system that overlayfs can't write to.
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let root = dir.path();
    let chain: Vec<String> =
        (0..127).map(|number| format!("sha256:{number:064x}").chars().rev().collect()).collect();
    let chain: Vec<String> = chain.iter().map(|reversed| format!("sha256:{}", &reversed[..64])).collect();
    for (number, layer) in chain.iter().enumerate() {
        let path = root.join("layers").join(short(layer));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("newest"), number.to_string()).unwrap();
        fs::write(path.join(format!("of{number}")), "").unwrap();
    }
    let top = root.join("layers").join(short(&chain[126]));
    mknod(&top.join("of3"), SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
    for name in ["upper", "work", "target"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    let target = root.join("target");
    mount_overlay(root, &chain, &root.join("upper"), &root.join("work"), &target).unwrap();
    assert_eq!(fs::read_to_string(target.join("newest")).unwrap(), "126");
    assert!(target.join("of0").exists() && target.join("of125").exists());
    assert!(!target.join("of3").exists(), "a whiteout hides it");
    fs::write(target.join("written"), "").unwrap();
    assert!(root.join("upper/written").exists());
    crate::files::unmount(&target).unwrap();
    assert!(fs::read_dir(&target).unwrap().next().is_none());

    let outside = tempfile::tempdir().unwrap();
    let refused = mount_overlay(root, &[], outside.path(), &root.join("work"), &target);
    assert!(refused.is_err(), "a directory elsewhere can't be named relative to the root");
}

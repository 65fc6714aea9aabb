use std::os::unix::fs::symlink;

use serde_json::json;

use super::*;
use crate::testing::{isolated, pod_from};

fn group(id: u32, policy: &str) -> Group {
    let context = json!({"fsGroup": id, "fsGroupChangePolicy": policy});
    Group::of(&pod_from(json!({"metadata": {"name": "p"}, "spec": {"securityContext": context}})))
        .expect("a group")
}

fn of(path: &Path) -> (u32, u32) {
    let found = fs::symlink_metadata(path).expect("it is there");
    (found.gid(), found.mode() & 0o7777)
}

#[test]
fn a_volume_is_given_as_a_whole_and_nothing_that_is_not_its() {
    isolated(|| async {
        let dir = tempfile::tempdir().expect("a directory");
        let (root, pods, other) =
            (dir.path().join("root"), dir.path().join("pods"), dir.path().join("other"));
        for path in [&root.join("d"), &root.join("mount"), &pods] {
            fs::create_dir_all(path).expect("a directory");
            fs::set_permissions(path, Permissions::from_mode(0o700)).expect("chmod");
        }
        for path in [&root.join("d/f"), &other] {
            fs::write(path, "x").expect("a file");
            fs::set_permissions(path, Permissions::from_mode(0o600)).expect("chmod");
        }
        symlink(&other, root.join("d/link")).expect("a link");
        let link = dir.path().join("link");
        symlink(&root, &link).expect("a link");
        mounts::mount_tmpfs(&root.join("mount"), None, "0700").expect("a tmpfs");

        assert_eq!(group(1234, "Always").take(&link, &pods).expect("given"), None);
        assert_eq!(of(&root).0, 1234);
        assert_eq!(of(&root).1 & 0o2770, 0o2770);
        assert_eq!(of(&root.join("d")), (1234, 0o2770));
        assert_eq!(of(&root.join("d/f")), (1234, 0o660));
        assert_eq!(of(&root.join("d/link")).0, 1234);
        assert_eq!(of(&other), (0, 0o600), "what a link leads to is not the volume's");
        assert_eq!(of(&root.join("mount")), (0, 0o700), "another file system is not the volume's");
    });
}

#[test]
fn on_root_mismatch_the_root_says_whether_all_is_well() {
    isolated(|| async {
        let dir = tempfile::tempdir().expect("a directory");
        let (root, pods) = (dir.path().join("root"), dir.path().join("pods"));
        let file = root.join("f");
        for path in [&root, &pods] {
            fs::create_dir_all(path).expect("a directory");
        }
        fs::write(&file, "x").expect("a file");
        for (id, policy, file_has) in
            [(7, "OnRootMismatch", 7), (7, "OnRootMismatch", 0), (7, "Always", 7), (8, "OnRootMismatch", 8)]
        {
            group(id, policy).take(&root, &pods).expect("given");
            assert_eq!(of(&file).0, file_has, "{id} {policy}");
            lchown(&file, None, Some(0)).expect("chown");
        }
        fs::set_permissions(&root, Permissions::from_mode(0o750)).expect("chmod");
        group(8, "OnRootMismatch").take(&root, &pods).expect("given");
        assert_eq!(of(&file).0, 8, "a root that the group cannot write to is none that is as it should be");
    });
}

#[test]
fn a_volume_that_a_pod_has_stays_with_its_group() {
    isolated(|| async {
        let dir = tempfile::tempdir().expect("a directory");
        let (root, pods) = (dir.path().join("root"), dir.path().join("pods"));
        let place = pods.join("a/volume");
        for path in [&root, &place] {
            fs::create_dir_all(path).expect("a directory");
        }
        assert_eq!(group(7, "Always").take(&root, &pods).expect("given"), None);
        mounts::bind(&root, &place).expect("a mount");
        assert_eq!(group(8, "Always").take(&root, &pods).expect("left"), Some(7));
        assert_eq!(of(&root).0, 7);
        assert_eq!(group(7, "Always").take(&root, &pods).expect("left"), None);
        mounts::unmount_below(&pods).expect("no mount");
        assert_eq!(group(8, "Always").take(&root, &pods).expect("given"), None);
        assert_eq!(of(&root).0, 8);
    });
}

use tiphys_cri::v1::{Int64Value, LinuxContainerSecurityContext, SupplementalGroupsPolicy};

use super::{find, resolve};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001:Ann:/home/ann:/bin/sh\nbroken\n";
const GROUPS: &str = "root:x:0:\nstaff:x:50:ann,bob\nwheel:x:10:bob\nann:x:1001:\n";

fn security(user: Option<i64>, group: Option<i64>) -> LinuxContainerSecurityContext {
    LinuxContainerSecurityContext {
        run_as_user: user.map(|value| Int64Value { value }),
        run_as_group: group.map(|value| Int64Value { value }),
        ..LinuxContainerSecurityContext::default()
    }
}

#[test]
fn users_are_found_by_name_and_by_number() {
    let none = security(None, None);
    for (image, asked, want) in [
        ("", &none, (0, 0, vec![0], "/root")),
        ("ann", &none, (1000, 1001, vec![1001, 50], "/home/ann")),
        ("1000", &none, (1000, 1001, vec![1001, 50], "/home/ann")),
        ("ann:wheel", &none, (1000, 10, vec![10, 50], "/home/ann")),
        ("77", &none, (77, 0, vec![0], "/")),
        ("77:88", &none, (77, 88, vec![88], "/")),
        ("ann", &security(Some(0), None), (0, 0, vec![0], "/root")),
        ("ann:wheel", &security(Some(5), Some(6)), (5, 6, vec![6], "/")),
    ] {
        let user = find(PASSWD, GROUPS, image, asked).unwrap();
        assert_eq!((user.uid, user.gid, user.groups, user.home.as_str()), want, "{image:?}");
    }
}

#[test]
fn supplemental_groups_are_merged_unless_strict() {
    let mut asked = security(Some(1000), None);
    asked.supplemental_groups = vec![7, 50];
    assert_eq!(find(PASSWD, GROUPS, "", &asked).unwrap().groups, [1001, 50, 7]);
    asked.supplemental_groups_policy = SupplementalGroupsPolicy::Strict as i32;
    assert_eq!(find(PASSWD, GROUPS, "", &asked).unwrap().groups, [1001, 7, 50]);
}

#[test]
fn unknown_names_are_refused() {
    let none = security(None, None);
    assert!(find(PASSWD, GROUPS, "carl", &none).unwrap_err().to_string().contains("carl"));
    assert!(find(PASSWD, GROUPS, "ann:nogroup", &none).unwrap_err().to_string().contains("nogroup"));
    let mut asked = security(None, None);
    asked.supplemental_groups = vec![-1];
    assert!(find(PASSWD, GROUPS, "", &asked).is_err());
}

#[test]
fn an_image_can_not_point_at_the_hosts_files() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    std::fs::write(&outside, "evil:x:7:7::/evil:/bin/sh\n").unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("etc/passwd")).unwrap();
    assert!(resolve(&root, "evil", &security(None, None)).is_err());
    // The same link is good where it leads to a file of the image.
    std::fs::create_dir_all(root.join(outside.strip_prefix("/").unwrap().parent().unwrap())).unwrap();
    std::fs::write(root.join(outside.strip_prefix("/").unwrap()), "good:x:8:8::/good:/bin/sh\n").unwrap();
    assert_eq!(resolve(&root, "good", &security(None, None)).unwrap().uid, 8);
}

use super::*;
use crate::testing::pod_from;
use serde_json::json;

const V1: &str = "\
30 23 0:26 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro
31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
35 30 0:29 / /elsewhere/memory rw - cgroup cgroup rw,memory";

#[test]
fn the_layout_is_read_from_the_mounts() {
    let Layout::V1 { mounts } = layout(V1) else { panic!("a hybrid host counts as v1") };
    let points: Vec<_> = mounts.iter().map(|(m, c)| format!("{} {}", m.display(), c.join(","))).collect();
    assert_eq!(points, ["/sys/fs/cgroup/cpu,cpuacct cpu,cpuacct", "/sys/fs/cgroup/memory memory"]);
    let v2 = "31 30 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
    assert_eq!(layout(v2), Layout::V2 { mount: "/sys/fs/cgroup".into() });
}

#[test]
fn amounts_become_what_the_kernel_takes() {
    assert_eq!([shares(0), shares(1), shares(1000), shares(10_000_000)], [2, 2, 1024, 262_144]);
    assert_eq!([weight(2), weight(1024), weight(262_144)], [1, 39, 10_000]);
    assert_eq!([quota(1), quota(500), quota(2000)], [1000, 50_000, 200_000]);
}

/// A directory stands for the kernel's file system: the files that are written are what counts.
fn pretend(layout: fn(&Path) -> Layout) -> (tempfile::TempDir, Cgroups) {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(dir.path());
    (dir, Cgroups { layout, root: "/kubepods-x".into(), pids_limit: Some(100) })
}

#[test]
fn a_pods_group_lies_by_its_class_and_has_its_limits() {
    let (dir, cgroups) = pretend(|root| Layout::V1 {
        mounts: vec![
            (root.join("cpu"), vec!["cpu".into(), "cpuacct".into()]),
            (root.join("memory"), vec!["memory".into()]),
        ],
    });
    let uid = PodUid::parse("u-1").unwrap();
    let pod = pod_from(json!({"spec": {"containers": [{"name": "c", "resources":
        {"requests": {"cpu": "250m", "memory": "1Mi"}, "limits": {"cpu": "500m", "memory": "2Mi"}}}]}}));
    assert!(cgroups.make_pod(&pod, &uid).unwrap());
    let read = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap_or_default();
    assert_eq!(read("cpu/kubepods-x/burstable/podu-1/cpu.shares"), "256");
    assert_eq!(read("cpu/kubepods-x/burstable/podu-1/cpu.cfs_quota_us"), "50000");
    assert_eq!(read("memory/kubepods-x/burstable/podu-1/memory.limit_in_bytes"), "2097152");
    assert_eq!(cgroups.pods(), BTreeSet::from([uid.clone()]));
    let best_effort = pod_from(json!({"spec": {"containers": [{"name": "c"}]}}));
    assert!(cgroups.make_pod(&best_effort, &uid).unwrap());
    assert_eq!(read("cpu/kubepods-x/besteffort/podu-1/cpu.shares"), "2");
    assert_eq!(read("cpu/kubepods-x/besteffort/podu-1/cpu.cfs_quota_us"), "");
}

#[test]
fn limits_are_widened_at_once_and_narrowed_last() {
    let v1: fn(&Path) -> Layout = |root| Layout::V1 {
        mounts: vec![(root.join("cpu"), vec!["cpu".into()]), (root.join("memory"), vec!["memory".into()])],
    };
    let (dir, cgroups) = pretend(v1);
    let uid = PodUid::parse("u-1").unwrap();
    let pod = |cpu: &str, memory: &str| {
        let limits = json!({"cpu": cpu, "memory": memory});
        pod_from(
            json!({"spec": {"containers": [{"name": "c", "resources": {"limits": limits, "requests": limits}}]}}),
        )
    };
    let limits = || {
        let read = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
        let quota = read("cpu/kubepods-x/podu-1/cpu.cfs_quota_us");
        (quota, read("memory/kubepods-x/podu-1/memory.limit_in_bytes"))
    };
    let at = |quota: i64, memory: i64| (quota.to_string(), memory.to_string());
    assert!(cgroups.make_pod(&pod("1", "1Mi"), &uid).unwrap());
    assert_eq!(limits(), at(100_000, 1 << 20));
    let mixed = pod("500m", "2Mi");
    assert!(!cgroups.make_pod(&mixed, &uid).unwrap(), "a narrower one is still to come");
    assert_eq!(limits(), at(100_000, 2 << 20));
    cgroups.set_pod(&mixed, &uid).unwrap();
    assert_eq!(limits(), at(50_000, 2 << 20));
    assert!(cgroups.make_pod(&mixed, &uid).unwrap());
}

#[test]
fn real_groups_are_made_and_removed() {
    let name = format!("/tiphys-node-test-{}", std::process::id());
    let cgroups = Cgroups::discover(&name, None).unwrap();
    if nix::unistd::geteuid().as_raw() != 0 || cgroups.is_v2() && cgroups.make(&name).is_err() {
        return;
    }
    let uid = PodUid::parse("u-2").unwrap();
    let pod = pod_from(
        json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1", "memory": "64Mi"}}}]}}),
    );
    let made = cgroups.prepare(2000, 0).and_then(|()| cgroups.make_pod(&pod, &uid));
    let limit = cgroups.directory(&format!("{name}/podu-2"), "memory").and_then(|d| {
        fs::read_to_string(d.join("memory.limit_in_bytes"))
            .or_else(|_| fs::read_to_string(d.join("memory.max")))
            .ok()
    });
    let removed = cgroups.remove_pod(&uid);
    let left = cgroups.pods();
    cgroups.remove_all().unwrap();
    made.unwrap();
    removed.unwrap();
    assert_eq!(limit.as_deref().map(str::trim), Some("67108864"));
    assert!(left.is_empty());
}

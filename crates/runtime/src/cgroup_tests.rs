use super::*;

#[test]
fn every_group_above_gives_on_the_controllers_with_limits() {
    let dir = tempfile::tempdir().unwrap();
    let groups =
        ["", "cluster", "cluster/burstable", "cluster/burstable/pod", "cluster/burstable/pod/container"];
    for group in groups {
        let group = dir.path().join(group);
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cgroup.controllers"), "cpuset cpu io memory hugetlb pids rdma misc\n").unwrap();
        fs::write(group.join("cgroup.subtree_control"), "").unwrap();
    }
    fs::write(dir.path().join("cluster/cgroup.subtree_control"), "cpuset cpu io memory pids\n").unwrap();
    hand_down(dir.path(), "/cluster/burstable/pod/container").unwrap();
    let given = groups.map(|group| fs::read_to_string(dir.path().join(group).join("cgroup.subtree_control")));
    let all = "+cpuset +cpu +io +memory +hugetlb +pids";
    assert_eq!(given.map(Result::unwrap), [all, "+hugetlb", all, all, ""]);
}

#[test]
fn shares_become_weights_that_keep_the_extremes_and_the_norm() {
    assert_eq!([0, 2, 102, 1024, 262_144, i64::MAX].map(weight_of), [1, 1, 17, 100, 10_000, 10_000]);
}

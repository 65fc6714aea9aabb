use super::check_sysctl;

#[test]
fn only_a_pods_own_sysctls_can_be_set() {
    for (name, host_network, own_ipc, allowed) in [
        ("net.core.somaxconn", false, true, true),
        ("net.core.somaxconn", true, true, false),
        ("kernel.shmmax", false, true, true),
        ("kernel.shmmax", false, false, false),
        ("fs.mqueue.msg_max", true, true, true),
        ("kernel.core_pattern", false, true, false),
        ("vm.overcommit_memory", false, true, false),
        ("net.../../kernel.core_pattern", false, true, false),
        ("net.ipv4/../../kernel/core_pattern", false, true, false),
        ("/net.x", false, true, false),
    ] {
        assert_eq!(check_sysctl(name, host_network, own_ipc).is_ok(), allowed, "{name}");
    }
}

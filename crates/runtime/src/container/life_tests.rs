use super::*;

#[test]
fn what_an_update_does_not_say_stays() {
    let old = LinuxContainerResources {
        cpu_shares: 10,
        memory_limit_in_bytes: 20,
        ..LinuxContainerResources::default()
    };
    let new = LinuxContainerResources {
        memory_limit_in_bytes: 30,
        cpuset_cpus: "0".into(),
        ..LinuxContainerResources::default()
    };
    let merged = merge(old, new);
    assert_eq!((merged.cpu_shares, merged.memory_limit_in_bytes, merged.cpuset_cpus.as_str()), (10, 30, "0"));
}

use super::{default_profile, from_file};

fn allowed(capabilities: &[&str]) -> Vec<String> {
    let capabilities: Vec<String> = capabilities.iter().map(|name| (*name).to_owned()).collect();
    let profile = default_profile(&capabilities).unwrap();
    let rules = profile.syscalls().clone().unwrap();
    rules[0].names().clone()
}

#[test]
fn what_acts_on_the_host_needs_its_capability() {
    let plain = allowed(&["CAP_CHOWN"]);
    for call in [
        "mount",
        "unshare",
        "setns",
        "reboot",
        "init_module",
        "bpf",
        "keyctl",
        "userfaultfd",
        "clone",
        "io_uring_setup",
    ] {
        assert!(!plain.iter().any(|name| name == call), "{call} is allowed");
    }
    for call in ["read", "execve", "futex", "openat2", "statx", "epoll_pwait2", "rseq"] {
        assert!(plain.iter().any(|name| name == call), "{call} isn't allowed");
    }
    let admin = allowed(&["CAP_SYS_ADMIN"]);
    assert!(["mount", "unshare", "clone", "clone3"].iter().all(|call| admin.iter().any(|name| name == call)));
    assert!(!admin.iter().any(|name| name == "reboot"));
}

#[test]
fn a_file_that_is_no_profile_is_an_error() {
    assert!(from_file(b"{\"defaultAction\": \"SCMP_ACT_LOG\"}").is_ok());
    assert!(from_file(b"{\"defaultAction\": \"NO_SUCH\"}").is_err());
    assert!(from_file(b"not json").is_err());
}

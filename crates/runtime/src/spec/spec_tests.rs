use serde_json::json;
use tiphys_cri::v1::{ContainerConfig, HugepageLimit, LinuxContainerResources};

use super::{command, exec_process, limits, signal_of, stop_signal};
use crate::cgroup::Host;
use crate::image::ImageConfig;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn the_command_is_the_kubelets_or_the_images() {
    let image = ImageConfig {
        entrypoint: Some(words(&["/entry"])),
        cmd: Some(words(&["default"])),
        ..ImageConfig::default()
    };
    for (asked_command, asked_args, expected) in [
        (&[][..], &[][..], &["/entry", "default"][..]),
        (&[], &["given"], &["/entry", "given"]),
        (&["/mine"], &[], &["/mine"]),
        (&["/mine"], &["given"], &["/mine", "given"]),
    ] {
        let config = ContainerConfig {
            command: words(asked_command),
            args: words(asked_args),
            ..ContainerConfig::default()
        };
        assert_eq!(command(&config, &image).unwrap(), expected);
    }
    assert!(command(&ContainerConfig::default(), &ImageConfig::default()).is_err());
}

#[test]
fn stop_signals_are_read_in_all_their_spellings() {
    let (first, last) = (nix::libc::SIGRTMIN(), nix::libc::SIGRTMAX());
    for (name, number) in [
        ("", 15),
        ("SIGQUIT", 3),
        ("quit", 3),
        ("9", 9),
        ("SIGRTMIN", first),
        ("RTMIN+3", first + 3),
        ("SIGRTMAX-2", last - 2),
        ("nonsense", 15),
        ("0", 15),
        ("65", 15),
        ("SIGRTMIN+99", 15),
    ] {
        assert_eq!(stop_signal(name), number, "{name:?}");
    }
}

#[test]
fn a_signal_is_told_as_it_was_asked_for() {
    use tiphys_cri::v1::Signal;
    let names = [
        "SIGTERM",
        "SIGUSR1",
        "SIGRTMIN",
        "SIGRTMIN+1",
        "SIGRTMIN+15",
        "SIGRTMAX-14",
        "SIGRTMAX-1",
        "SIGRTMAX",
    ];
    for name in names {
        let word = format!("SIGNAL_{}", name.replace('+', "PLUS").replace('-', "MINUS"));
        assert_eq!(signal_of(stop_signal(name)).as_str_name(), word, "{name}");
    }
    assert_eq!(signal_of(0), Signal::RuntimeDefault);
}

#[test]
fn limits_that_are_not_said_are_not_set() {
    let host = Host::Legacy { controllers: Vec::new() };
    assert_eq!(limits(&LinuxContainerResources::default(), &[], &host), json!({ "devices": [], "cpu": {} }));
    let resources = LinuxContainerResources {
        cpu_shares: 2,
        cpu_quota: -1,
        cpu_period: 100_000,
        cpuset_cpus: "0-1".into(),
        memory_limit_in_bytes: 1 << 20,
        hugepage_limits: vec![HugepageLimit { page_size: "2MB".into(), limit: 1 }],
        unified: [("memory.high".to_owned(), "1".to_owned())].into(),
        ..LinuxContainerResources::default()
    };
    let set = limits(&resources, &[], &host);
    assert_eq!(set["cpu"], json!({ "shares": 2, "quota": -1, "period": 100_000, "cpus": "0-1" }));
    assert_eq!(set["memory"]["limit"], json!(1 << 20));
    assert!(set.get("hugepageLimits").is_none() && set.get("unified").is_none(), "this host can't: {set}");
    let many = Host::Legacy { controllers: vec![("hugetlb".into(), "/x".into())] };
    assert_eq!(limits(&resources, &[], &many)["hugepageLimits"], json!([{ "pageSize": "2MB", "limit": 1 }]));
    assert_eq!(limits(&resources, &[], &Host::Unified)["unified"], json!({ "memory.high": "1" }));
}

#[test]
fn an_exec_differs_in_command_and_terminal_only() {
    let spec = json!({ "process": { "args": ["a"], "terminal": false, "env": ["X=1"], "user": { "uid": 7 }, "cwd": "/w" } });
    let process = exec_process(&spec, &words(&["b", "c"]), true).unwrap();
    assert_eq!(
        process,
        json!({ "args": ["b", "c"], "terminal": true, "env": ["X=1", "TERM=xterm"], "user": { "uid": 7 }, "cwd": "/w" })
    );
    assert_eq!(exec_process(&spec, &words(&["b"]), false).unwrap()["env"], json!(["X=1"]));
    assert!(exec_process(&spec, &[], false).is_err());
}

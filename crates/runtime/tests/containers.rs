//! Containers through CRI, against a server in a process of its own. They need root.

mod common;

use std::time::Duration;

use common::{Rig, log_of, unable};
use tiphys_cri::v1::*;

fn security(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

#[tokio::test]
async fn a_container_runs_logs_and_ends() {
    if unable() {
        return;
    }
    let rig = Rig::new().await;
    let (status, log) = rig.script(|_| {}, "echo out; echo err >&2; echo -n rest; exit 7").await;
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    assert!(
        log.contains("stdout F out\n") && log.contains("stderr F err\n") && log.contains("stdout P rest\n"),
        "{log}"
    );
    assert!(status.finished_at >= status.started_at && status.started_at >= status.created_at);

    let (status, log) = rig.script(|_| {}, "seq 1 20000").await;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    assert_eq!(log.lines().count(), 20_000, "the whole log is there when the end is told");
}

#[tokio::test]
async fn a_container_finds_its_world_as_asked() {
    if unable() {
        return;
    }
    let rig = Rig::new().await;
    let (_, log) = rig
        .script(
            |config| {
                config.envs.push(KeyValue { key: "ASKED".into(), value: b"a b".into() });
                config.envs.push(KeyValue { key: "FROM_IMAGE".into(), value: b"overridden".into() });
            },
            "pwd; echo $FROM_IMAGE $ASKED; hostname; cat /etc/resolv.conf; echo $$; id -u; cat /proc/self/status; \
             ls /sys/fs/cgroup; umask; touch /sys/fs/cgroup/memory/x; cat /dev/null; echo x > /dev/null",
        )
        .await;
    for line in [
        "/work/here",
        "overridden a b",
        "host0",
        "search default.svc.cluster.local cluster.local",
        "nameserver 10.96.0.10",
        "options ndots:5",
        "1",
        "0022",
        "Seccomp:\t2",
    ] {
        assert!(log.contains(&format!("stdout F {line}\n")), "{line:?} isn't in {log}");
    }
    let effective =
        log.lines().find_map(|line| line.strip_prefix("stdout F CapEff:\t")).expect("capabilities");
    assert_eq!(u64::from_str_radix(effective, 16), Ok(0xa804_25fb), "the fourteen of the default");
    let ignored = log.lines().find_map(|line| line.strip_prefix("stdout F SigIgn:\t")).expect("signals");
    assert_eq!(u64::from_str_radix(ignored, 16), Ok(0), "no signal is ignored");
    let blocked = log.lines().find_map(|line| line.strip_prefix("stdout F SigBlk:\t")).expect("signals");
    assert_eq!(u64::from_str_radix(blocked, 16), Ok(0), "no signal is blocked");
    assert!(
        log.contains("stderr F touch: /sys/fs/cgroup/memory/x: "),
        "its own limits can be written: {log}"
    );
}

#[tokio::test]
async fn a_container_is_confined_as_asked() {
    if unable() {
        return;
    }
    let rig = Rig::new().await;
    let (_, log) = rig
        .script(
            |config| {
                let security = security(config);
                security.run_as_username = "ann".into();
                security.supplemental_groups = vec![7];
                security.readonly_rootfs = true;
                security.no_new_privs = true;
                security.masked_paths = vec!["/proc/meminfo".into(), "/proc/acpi".into()];
                security.readonly_paths = vec!["/proc/sys".into()];
                security.capabilities =
                    Some(Capability { drop_capabilities: vec!["ALL".into()], ..Capability::default() });
            },
            "id; echo $HOME; touch /x; touch /proc/sys/kernel/domainname; unshare -m echo escaped; \
             cat /proc/self/status; echo done > /dev/stdout; head -c 1 /proc/meminfo | wc -c",
        )
        .await;
    assert!(
        log.contains("uid=1000(ann) gid=1000(ann) groups=") && log.contains("50(staff)") && log.contains("7"),
        "{log}"
    );
    assert!(log.contains("F /home/ann\n") && log.contains("F done\n"), "{log}");
    assert!(log.contains("touch: /x: Read-only file system"), "{log}");
    assert!(log.contains("touch: /proc/sys/kernel/domainname: Read-only file system"), "{log}");
    assert!(!log.contains("escaped"), "{log}");
    assert!(log.contains("NoNewPrivs:\t1") && log.contains("CapBnd:\t0000000000000000"), "{log}");
    assert!(log.contains("stdout F 0\n"), "{log}");

    let (_, log) = rig.script(|_| {}, "unshare -m echo escaped; mount -t tmpfs x /tmp && echo mounted").await;
    assert!(!log.contains("escaped") && !log.contains("mounted"), "{log}");
    let (_, log) = rig
        .script(|config| security(config).privileged = true, "mount -t tmpfs x /tmp && echo mounted")
        .await;
    assert!(log.contains("mounted"), "{log}");
}

#[tokio::test]
async fn a_command_that_is_not_there_fails_the_start() {
    if unable() {
        return;
    }
    let (rig, pod, sandbox) = Rig::with_sandbox().await;
    for (command, problem) in [
        ("nosuch", "unable to start container process: exec: \"nosuch\": executable file not found in $PATH"),
        (
            "/no/such",
            "unable to start container process: exec: \"/no/such\": stat /no/such: no such file or directory",
        ),
        ("/etc/passwd", "unable to start container process: exec: \"/etc/passwd\": permission denied"),
        ("/tmp", "unable to start container process: exec: \"/tmp\": is a directory"),
    ] {
        let mut config = rig.container_config("");
        config.command = vec![command.into()];
        let id = rig.create(&sandbox, &pod, &config).await.expect("creating says nothing of the command");
        let error = rig.start(&id).await.expect_err("starting fails");
        assert_eq!(error.message(), problem);
        let status = rig.status(&id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
        assert_eq!(status.message, problem);
    }
    let mut config = rig.container_config("");
    config.image = Some(ImageSpec { image: "nosuch:1".into(), ..ImageSpec::default() });
    assert_eq!(
        rig.create(&sandbox, &pod, &config).await.expect_err("no image").code(),
        tonic::Code::NotFound
    );
    rig.remove_sandbox(&sandbox).await;
}

#[tokio::test]
async fn a_container_over_its_memory_is_killed_and_says_why() {
    if unable() {
        return;
    }
    let rig = Rig::new().await;
    let limit = |config: &mut ContainerConfig| {
        config.linux.get_or_insert_default().resources = Some(LinuxContainerResources {
            memory_limit_in_bytes: 24 << 20,
            ..LinuxContainerResources::default()
        });
    };
    let (status, log) = rig.script(limit, "exec dd if=/dev/zero of=/dev/null bs=128M count=1").await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"), "{log}");
}

#[tokio::test]
async fn stopping_is_polite_and_then_not() {
    if unable() {
        return;
    }
    let (rig, pod, sandbox) = Rig::with_sandbox().await;
    let polite = rig.container_config("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done");
    let stubborn = rig.container_config("trap '' TERM; echo ready; while :; do sleep 0.05; done");
    let (polite, stubborn) =
        (rig.run(&sandbox, &pod, &polite).await, rig.run(&sandbox, &pod, &stubborn).await);
    for id in [&polite, &stubborn] {
        while !log_of(&rig.status(id).await).contains("ready") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let stop = |id: &str, timeout| StopContainerRequest { container_id: id.into(), timeout };
    let mut runtime = rig.client.runtime();
    runtime.stop_container(stop(&polite, 60)).await.expect("stops");
    assert_eq!(rig.status(&polite).await.exit_code, 5);
    runtime.stop_container(stop(&stubborn, 1)).await.expect("stops");
    assert_eq!(rig.status(&stubborn).await.exit_code, 137);
    // Everything may be done again, and to what isn't there.
    runtime.stop_container(stop(&stubborn, 1)).await.expect("stopped already");
    runtime.stop_container(stop("nosuchcontainer", 1)).await.expect("nothing to stop");
    let remove = |id: &str| RemoveContainerRequest { container_id: id.into() };
    runtime.remove_container(remove(&polite)).await.expect("goes");
    runtime.remove_container(remove(&polite)).await.expect("gone already");
    rig.remove_sandbox(&sandbox).await;
    rig.remove_sandbox(&sandbox).await;
}

#[tokio::test]
async fn commands_run_in_a_container() {
    if unable() {
        return;
    }
    let (rig, pod, sandbox) = Rig::with_sandbox().await;
    let mut config = rig.container_config("echo shared > /tmp/file; exec sleep 1000");
    security(&mut config).run_as_username = "ann".into();
    let id = rig.run(&sandbox, &pod, &config).await;
    while rig.exec(&id, "cat /tmp/file").await.exit_code != 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let done = rig.exec(&id, "cat /tmp/file; id -un; pwd; echo $FROM_IMAGE; grep Seccomp: /proc/self/status; echo e >&2; exit 3").await;
    let text = String::from_utf8(done.stdout).expect("text");
    assert_eq!(
        (text.as_str(), done.stderr.as_slice(), done.exit_code),
        ("shared\nann\n/work/here\nyes\nSeccomp:\t2\n", b"e\n".as_slice(), 3)
    );
    assert_eq!(rig.exec(&id, "unshare -m echo escaped").await.stdout, b"");
    assert_eq!(rig.exec(&id, "seq 1 100000").await.stdout.len(), 588_895);
    // What it leaves behind doesn't hold the answer up for ever.
    assert_eq!(rig.exec(&id, "sleep 1000 & echo left").await.stdout, b"left\n");

    let request = |cmd: &[&str], timeout| ExecSyncRequest {
        container_id: id.clone(),
        cmd: cmd.iter().map(|word| (*word).to_owned()).collect(),
        timeout,
    };
    let mut runtime = rig.client.runtime();
    let late = runtime.exec_sync(request(&["sleep", "1000"], 1)).await.expect_err("takes too long");
    assert_eq!(late.code(), tonic::Code::DeadlineExceeded);
    let missing = runtime.exec_sync(request(&["nosuch"], 10)).await.expect_err("isn't there");
    assert!(missing.message().contains("exec: \"nosuch\": executable file not found in $PATH"), "{missing}");
    rig.remove_sandbox(&sandbox).await;
}

#[tokio::test]
async fn pods_outlive_the_server() {
    if unable() {
        return;
    }
    let (mut rig, pod, sandbox) = Rig::with_sandbox().await;
    let lasting = rig.container_config("echo begun; sleep 1000");
    let ending = rig.container_config("while [ ! -e /tmp/end ]; do sleep 0.02; done; echo after; exit 9");
    let lasting = rig.run(&sandbox, &pod, &lasting).await;
    let shared = rig.dir.path().join("shared");
    std::fs::create_dir(&shared).expect("directory");
    let mut ending = ending;
    ending.mounts.push(Mount {
        container_path: "/tmp".into(),
        host_path: shared.display().to_string(),
        ..Mount::default()
    });
    let ending = rig.run(&sandbox, &pod, &ending).await;
    let created = rig.create(&sandbox, &pod, &rig.container_config("echo late")).await.expect("created");
    let before = rig.status(&lasting).await;

    rig.kill_server();
    std::fs::write(shared.join("end"), "").expect("file");
    let log = rig.dir.path().join("logs0").join("c2.log");
    while !std::fs::read_to_string(&log).unwrap_or_default().contains("after") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    rig.start_server().await;

    let after = rig.status(&lasting).await;
    assert_eq!(after, before, "nothing of it has changed");
    assert_eq!(after.state, ContainerState::ContainerRunning as i32);
    assert_eq!(rig.exec(&lasting, "echo alive").await.stdout, b"alive\n");
    let ended = rig.ended(&ending).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (9, "Error"));
    rig.start(&created).await.expect("what was only created can be started");
    assert_eq!(rig.ended(&created).await.exit_code, 0);
    let list = rig
        .client
        .runtime()
        .list_pod_sandbox(ListPodSandboxRequest::default())
        .await
        .expect("list")
        .into_inner();
    assert_eq!((list.items.len(), list.items[0].state), (1, PodSandboxState::SandboxReady as i32));
    rig.remove_sandbox(&sandbox).await;
}

#[tokio::test]
async fn an_images_files_can_be_read_and_nothing_else() {
    if unable() {
        return;
    }
    let rig = Rig::new().await;
    let with = |sub: &'static str| {
        move |config: &mut ContainerConfig| {
            config.mounts.push(Mount {
                container_path: "/image".into(),
                readonly: true,
                image: Some(ImageSpec { image: common::BUSYBOX.into(), ..ImageSpec::default() }),
                image_sub_path: sub.into(),
                ..Mount::default()
            });
        }
    };
    let script =
        "head -c 4 /image/etc/passwd; touch /image/x && echo wrote; /image/bin/busybox true && echo ran";
    let (_, log) = rig.script(with(""), script).await;
    assert!(log.contains("root") && !log.contains("wrote") && !log.contains("ran"), "{log}");
    let (_, log) = rig.script(with("etc"), "ls /image").await;
    assert!(log.contains("passwd") && !log.contains("bin"), "{log}");
    let pod = rig.sandbox_config();
    let sandbox = rig.sandbox(&pod).await;
    for sub in ["none", "../../../../etc/shadow"] {
        let mut config = rig.container_config("true");
        with(sub)(&mut config);
        rig.create(&sandbox, &pod, &config).await.expect_err("there is no such path in the image");
    }
    rig.remove_sandbox(&sandbox).await;
}

#[tokio::test]
async fn a_container_is_ended_by_the_signal_that_it_names() {
    if unable() {
        return;
    }
    let (rig, pod, sandbox) = Rig::with_sandbox().await;
    let mut config = rig.container_config("trap 'exit 5' USR1; echo ready; while :; do sleep 0.02; done");
    config.stop_signal = Signal::Sigusr1 as i32;
    let id = rig.run(&sandbox, &pod, &config).await;
    while !log_of(&rig.status(&id).await).contains("ready") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(rig.status(&id).await.stop_signal(), Signal::Sigusr1);
    let stop = StopContainerRequest { container_id: id.clone(), timeout: 30 };
    rig.client.runtime().stop_container(stop).await.expect("it stops");
    assert_eq!(rig.ended(&id).await.exit_code, 5);
    let plain = rig.run(&sandbox, &pod, &rig.container_config("sleep 1000")).await;
    assert_eq!(rig.status(&plain).await.stop_signal(), Signal::Sigterm);
    rig.remove_sandbox(&sandbox).await;
}

#[tokio::test]
async fn a_lost_shim_takes_its_pod_along() {
    if unable() {
        return;
    }
    let (rig, pod, sandbox) = Rig::with_sandbox().await;
    let id = rig.run(&sandbox, &pod, &rig.container_config("sleep 1000")).await;
    let pids = |group: &str| -> Vec<i32> {
        let tree = if std::path::Path::new("/sys/fs/cgroup/cgroup.procs").exists() { "" } else { "unified/" };
        let path = format!("/sys/fs/cgroup/{tree}tiphys-{}/{group}/cgroup.procs", rig.instance);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    let name = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let shim = pids(&sandbox).into_iter().find(|pid| name(pid) == "tiphys-shim\n").expect("shim");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL)
        .expect("kill");
    let status = rig.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "ContainerStatusUnknown"));
    let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.clone(), verbose: false };
    let status = rig.client.runtime().pod_sandbox_status(request).await.expect("status").into_inner();
    assert_eq!(status.status.expect("status").state, PodSandboxState::SandboxNotready as i32);
    rig.remove_sandbox(&sandbox).await;
    assert!(pids(&sandbox).is_empty());
}

#[tokio::test]
async fn a_pod_can_share_its_process_ids() {
    if unable() {
        return;
    }
    let rig = Rig::new().await;
    let mut pod = rig.sandbox_config();
    let options = NamespaceOption { pid: NamespaceMode::Pod as i32, ..NamespaceOption::default() };
    pod.linux.get_or_insert_default().security_context.get_or_insert_default().namespace_options =
        Some(options.clone());
    let sandbox = rig.sandbox(&pod).await;
    let shared = |script: &str| {
        let mut config = rig.container_config(script);
        security(&mut config).namespace_options = Some(options.clone());
        config
    };
    let id = rig.run(&sandbox, &pod, &shared("sleep 1000 & exec sleep 1001")).await;
    let other = rig.run(&sandbox, &pod, &shared("while :; do ps; sleep 0.1; done")).await;
    loop {
        let log = log_of(&rig.status(&other).await);
        if log.contains("sleep 1000") && log.contains("sleep 1001") {
            assert!(log.contains("pause") || log.contains("1 65535"), "{log}");
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let stop = StopContainerRequest { container_id: id.clone(), timeout: 0 };
    rig.client.runtime().stop_container(stop).await.expect("stops");
    let left = rig.exec(&other, "ps").await.stdout;
    assert!(!String::from_utf8_lossy(&left).contains("sleep 100"), "children end with their container");
    rig.remove_sandbox(&sandbox).await;
}

#[tokio::test]
async fn changes_are_told_as_they_happen() {
    if unable() {
        return;
    }
    let rig = Rig::new().await;
    let mut events =
        rig.client.runtime().get_container_events(GetEventsRequest {}).await.expect("events").into_inner();
    let pod = rig.sandbox_config();
    let sandbox = rig.sandbox(&pod).await;
    let id = rig.run(&sandbox, &pod, &rig.container_config("exit 4")).await;
    rig.ended(&id).await;
    rig.remove_sandbox(&sandbox).await;
    let mut seen = Vec::new();
    while seen.len() < 8 {
        let event = events.message().await.expect("stream").expect("event");
        if event.container_event_type == ContainerEventType::ContainerStoppedEvent as i32
            && event.container_id == id
        {
            assert_eq!(event.containers_statuses[0].exit_code, 4);
        }
        seen.push((event.container_id == id, event.container_event_type));
    }
    use ContainerEventType::*;
    let kinds =
        |mine| -> Vec<i32> { seen.iter().filter(|(own, _)| *own == mine).map(|(_, kind)| *kind).collect() };
    let all = [ContainerCreatedEvent, ContainerStartedEvent, ContainerStoppedEvent, ContainerDeletedEvent];
    let all = all.map(|kind| kind as i32);
    let mut container = kinds(true);
    container.sort_unstable();
    assert_eq!((container, kinds(false)), (all.to_vec(), all.to_vec()));
}

#[tokio::test]
async fn limits_and_usage_are_the_kernels() {
    if unable() {
        return;
    }
    let (rig, pod, sandbox) = Rig::with_sandbox().await;
    let mut config = rig.container_config("exec sleep 1000");
    config.linux.get_or_insert_default().resources = Some(LinuxContainerResources {
        cpu_shares: 512,
        memory_limit_in_bytes: 64 << 20,
        ..LinuxContainerResources::default()
    });
    let id = rig.run(&sandbox, &pod, &config).await;
    let limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/memory.max";
    assert!(String::from_utf8_lossy(&rig.exec(&id, limit).await.stdout).starts_with("67108864\n"));
    let request = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(LinuxContainerResources {
            memory_limit_in_bytes: 96 << 20,
            ..LinuxContainerResources::default()
        }),
        ..UpdateContainerResourcesRequest::default()
    };
    rig.client.runtime().update_container_resources(request).await.expect("update");
    assert!(String::from_utf8_lossy(&rig.exec(&id, limit).await.stdout).starts_with("100663296\n"));
    let linux = rig.status(&id).await.resources.expect("resources").linux.expect("linux");
    assert_eq!((linux.memory_limit_in_bytes, linux.cpu_shares), (96 << 20, 512));

    rig.exec(&id, "head -c 1000000 /dev/zero > /tmp/big; seq 1 200000 > /dev/null").await;
    let stats =
        rig.client.runtime().container_stats(ContainerStatsRequest { container_id: id.clone() }).await;
    let stats = stats.expect("stats").into_inner().stats.expect("stats");
    assert!(stats.cpu.expect("cpu").usage_core_nano_seconds.expect("value").value > 0);
    assert!(stats.memory.expect("memory").working_set_bytes.expect("value").value > 0);
    assert!(stats.writable_layer.expect("layer").used_bytes.expect("value").value >= 1_000_000);
    let stats = rig.client.runtime().list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await;
    let stats = stats.expect("stats").into_inner().stats;
    assert_eq!(stats[0].linux.as_ref().expect("linux").containers.len(), 1);
    rig.remove_sandbox(&sandbox).await;
}

#[tokio::test]
async fn cleanup_leaves_nothing_but_images_and_records() {
    if unable() {
        return;
    }
    let (mut rig, pod, sandbox) = Rig::with_sandbox().await;
    let running = rig.run(&sandbox, &pod, &rig.container_config("sleep 1000")).await;
    let over = rig.run(&sandbox, &pod, &rig.container_config("echo over; exit 3")).await;
    rig.ended(&over).await;
    rig.kill_server();
    let root = rig.root();
    let status =
        std::process::Command::new(common::HARNESS).arg("cleanup").arg(&root).arg(&rig.instance).status();
    assert!(status.is_ok_and(|status| status.success()));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&root.display().to_string()), "{mounts}");
    for entry in walk("/sys/fs/cgroup".as_ref(), 3) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        assert!(!name.contains(&rig.instance), "{} is left", entry.display());
    }
    rig.start_server().await;
    let images =
        rig.client.images().list_images(ListImagesRequest::default()).await.expect("images").into_inner();
    assert_eq!(images.images.len(), 1, "images stay");
    let over = rig.status(&over).await;
    assert_eq!((over.exit_code, log_of(&over).as_str()), (3, "stdout F over\n"));
    assert_eq!(rig.status(&running).await.reason, "ContainerStatusUnknown");
    let sandboxes = rig.client.runtime().list_pod_sandbox(ListPodSandboxRequest::default()).await;
    let sandboxes = sandboxes.expect("sandboxes").into_inner().items;
    assert!(sandboxes.iter().all(|sandbox| sandbox.state() == PodSandboxState::SandboxNotready));
    rig.remove_sandbox(&sandbox).await;
    assert_eq!(std::fs::read_dir(root.join("pods")).expect("pods").count(), 0);
}

fn walk(dir: &std::path::Path, depth: u32) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if depth > 0 {
                found.extend(walk(&entry.path(), depth - 1));
            }
            found.push(entry.path());
        }
    }
    found
}

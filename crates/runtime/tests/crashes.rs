//! The server is killed at any moment; what it leaves must be found, used or removed. They need root.

mod common;

use std::time::Duration;

use common::{Rig, unable};
use tiphys_cri::v1::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_moment_leaves_nothing_that_can_not_be_removed() {
    if unable() {
        return;
    }
    let mut rig = Rig::new().await;
    for round in 0..8u64 {
        let mut works = Vec::new();
        for _ in 0..2 {
            let (client, pod) = (rig.client.clone(), rig.sandbox_config());
            let config = rig.container_config("exec sleep 1000");
            works.push(tokio::spawn(async move {
                let request =
                    RunPodSandboxRequest { config: Some(pod.clone()), ..RunPodSandboxRequest::default() };
                let pod_sandbox_id =
                    client.runtime().run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
                let request = CreateContainerRequest {
                    pod_sandbox_id: pod_sandbox_id.clone(),
                    config: Some(config),
                    sandbox_config: Some(pod),
                };
                let container_id =
                    client.runtime().create_container(request).await?.into_inner().container_id;
                client.runtime().start_container(StartContainerRequest { container_id }).await?;
                client.runtime().stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id }).await.map(drop)
            }));
        }
        // Each round is cut elsewhere: between nothing done and all done.
        tokio::time::sleep(Duration::from_millis(12 * round)).await;
        rig.kill_server();
        for work in works {
            // How far it came is a matter of luck.
            let _ = work.await;
        }
        rig.start_server().await;
        let list = rig.client.runtime().list_pod_sandbox(ListPodSandboxRequest::default()).await;
        for sandbox in list.expect("list").into_inner().items {
            rig.remove_sandbox(&sandbox.id).await;
        }
        let containers = rig.client.runtime().list_containers(ListContainersRequest::default()).await;
        assert!(containers.expect("list").into_inner().containers.is_empty(), "round {round}");
        let pods = rig.root().join("pods");
        assert_eq!(std::fs::read_dir(&pods).expect("pods").count(), 0, "round {round}");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(&pods.display().to_string()), "round {round}: {mounts}");
    }
}

#[tokio::test]
async fn namespaces_and_volumes_are_as_the_pod_asks() {
    if unable() {
        return;
    }
    let rig = Rig::new().await;
    let mut pod = rig.sandbox_config();
    let host = NamespaceOption {
        network: NamespaceMode::Node as i32,
        pid: NamespaceMode::Node as i32,
        ipc: NamespaceMode::Node as i32,
        ..NamespaceOption::default()
    };
    pod.linux.get_or_insert_default().security_context.get_or_insert_default().namespace_options =
        Some(host.clone());
    let sandbox = rig.sandbox(&pod).await;
    let mut config = rig.container_config(
        "ls /proc/1/exe >/dev/null 2>&1; cat /proc/sys/kernel/hostname; for n in net ipc uts pid; do ls -l /proc/self/ns/$n; done",
    );
    config.linux.get_or_insert_default().security_context.get_or_insert_default().namespace_options =
        Some(host);
    let id = rig.run(&sandbox, &pod, &config).await;
    let log = common::log_of(&rig.ended(&id).await);
    for kind in ["net", "ipc", "uts", "pid"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("namespace");
        assert!(log.contains(&own.display().to_string()), "{kind} isn't the host's: {log}");
    }
    rig.remove_sandbox(&sandbox).await;

    let mut pod = rig.sandbox_config();
    let sysctls = &mut pod.linux.get_or_insert_default().sysctls;
    sysctls.insert("net.core.somaxconn".into(), "321".into());
    sysctls.insert("kernel.shmmni".into(), "123".into());
    let sandbox = rig.sandbox(&pod).await;
    let (volume, nested) = (rig.dir.path().join("volume"), rig.dir.path().join("not/there/yet"));
    std::fs::create_dir(&volume).expect("directory");
    std::fs::write(volume.join("file"), "text").expect("file");
    let mut config = rig.container_config(
        "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shmmni /vol/file /one; echo x > /vol/new; echo x > /one; \
         echo made > /deep/a/file; echo hi > /dev/shm/x; cat /dev/shm/x; ls -la /dev/zero; head -c 3 /dev/sized | wc -c",
    );
    let mount = |from: &std::path::Path, to: &str, readonly| Mount {
        host_path: from.display().to_string(),
        container_path: to.into(),
        readonly,
        ..Mount::default()
    };
    config.mounts = vec![
        mount(&nested, "/deep/a", false),
        mount(&volume, "/vol", true),
        mount(&volume.join("file"), "/one", true),
    ];
    config.devices = vec![Device {
        host_path: "/dev/zero".into(),
        container_path: "/dev/sized".into(),
        permissions: "r".into(),
    }];
    let id = rig.run(&sandbox, &pod, &config).await;
    let log = common::log_of(&rig.ended(&id).await);
    for line in ["stdout F 321\n", "stdout F 123\n", "stdout F texttexthi\n", "stdout F 3\n"] {
        assert!(log.contains(line), "{line:?}: {log}");
    }
    assert_eq!(log.matches("Read-only file system").count(), 2, "{log}");
    assert_eq!(std::fs::read_to_string(nested.join("file")).expect("made"), "made\n");
    rig.remove_sandbox(&sandbox).await;
    assert!(volume.join("file").exists(), "a volume outlives its pod");

    let mut pod = rig.sandbox_config();
    pod.linux.get_or_insert_default().sysctls.insert("kernel.core_pattern".into(), "x".into());
    let request = RunPodSandboxRequest { config: Some(pod), ..RunPodSandboxRequest::default() };
    let error = rig.client.runtime().run_pod_sandbox(request).await.expect_err("not the pod's own");
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
}

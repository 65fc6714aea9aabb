use serde_json::json;

use super::*;
use crate::key::PodUid;
use crate::pod::main_containers;
use crate::testing::pod_from;

fn key() -> PodKey {
    PodKey { namespace: "ns".into(), name: "p".into(), uid: PodUid::parse("u").unwrap() }
}

fn config() -> Config {
    Config { hostname: "host".into(), ..Config::new("n", "/var/lib/x".into(), "/k") }
}

#[test]
fn a_sandbox_carries_what_the_node_finds_it_by() {
    let pod = pod_from(
        json!({"metadata": {"namespace": "ns", "labels": {"app": "x", "io.kubernetes.pod.name": "forged"}, "annotations": {"a": "b"}},
        "spec": {"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true,
            "securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]},
            "containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 8080, "protocol": "UDP", "hostIP": "127.0.0.1"}, {"containerPort": 81}]}]}}),
    );
    let made = sandbox(&config(), &key(), &pod, 2, "/k/podu".into(), &Resolver::default());
    assert_eq!(made.hostname, "h.s.ns.svc.cluster.local");
    assert_eq!(made.log_directory, "/var/lib/x/pod-logs/ns_p_u");
    assert_eq!(made.labels["io.kubernetes.pod.name"], "p", "a pod's own labels can't forge the node's");
    assert_eq!((made.labels["app"].as_str(), made.annotations["a"].as_str()), ("x", "b"));
    assert_eq!(made.metadata.unwrap().attempt, 2);
    let [port] = &made.port_mappings[..] else { panic!("{:?}", made.port_mappings) };
    assert_eq!((port.host_port, port.container_port, port.protocol), (8080, 80, v1::Protocol::Udp as i32));
    assert_eq!(made.linux.unwrap().sysctls["net.core.somaxconn"], "1");
    let on_host = pod_from(json!({"spec": {"hostNetwork": true, "containers": []}}));
    let made = sandbox(&config(), &key(), &on_host, 0, String::new(), &Resolver::default());
    assert_eq!(made.hostname, "host");
}

#[test]
fn a_container_gets_its_share() {
    let pod =
        pod_from(json!({"spec": {"containers": [{"name": "c", "image": "i", "tty": true, "workingDir": "/w",
        "resources": {"requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "64Mi"}}}]}}));
    let c = main_containers(&pod).next().unwrap();
    let parts = Parts {
        attempt: 4,
        image: "sha256:1".into(),
        environment: Environment::default(),
        mounts: vec![],
        target: None,
        node_memory: 128 * 1024 * 1024,
        seccomp_dir: "/seccomp".into(),
    };
    let made = container(&key(), &pod, &c, parts);
    assert_eq!(made.log_path, "c/4.log");
    assert_eq!(made.annotations[labels::RESTART_COUNT], "4");
    assert_eq!(made.annotations[labels::CONTAINER_HASH], config_hash::of(&c.spec));
    assert!(made.tty && !made.stdin);
    let r = made.linux.unwrap().resources.unwrap();
    assert_eq!((r.cpu_shares, r.cpu_quota, r.cpu_period), (256, 50_000, 100_000));
    assert_eq!((r.memory_limit_in_bytes, r.oom_score_adj), (64 * 1024 * 1024, 500));
}

#[test]
fn mounts_are_made_for_volumes_hosts_and_last_words() {
    let root = tempfile::tempdir().unwrap();
    let dir = PodDir::new(root.path(), &PodUid::parse("u").unwrap());
    std::fs::create_dir_all(dir.path()).unwrap();
    let pod = pod_from(json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {
        "volumes": [{"name": "h", "hostPath": {"path": "/srv"}}, {"name": "cm", "configMap": {"name": "x"}}, {"name": "nfs", "nfs": {"server": "x", "path": "/"}}],
        "containers": [{"name": "c", "terminationMessagePath": "/tmp/words", "volumeMounts": [
            {"name": "h", "mountPath": "/h", "mountPropagation": "Bidirectional"}, {"name": "cm", "mountPath": "cm"}]},
            {"name": "d", "volumeMounts": [{"name": "nfs", "mountPath": "/x"}]},
            {"name": "e", "volumeMounts": [{"name": "h", "mountPath": "/h", "subPathExpr": "$(NONE)"}]},
            {"name": "f", "volumeMounts": [{"name": "none", "mountPath": "/x"}]}]}}));
    let with = MountInputs { dir: &dir, ips: &["10.0.0.1".into()], domain: "cluster.local", attempt: 0 };
    let make =
        |i: usize| mounts(&pod, &pod.spec.as_ref().unwrap().containers[i], &Environment::default(), &with);
    let made = make(0).unwrap();
    let show: Vec<String> =
        made.iter().map(|m| format!("{} {} {}", m.container_path, m.readonly, m.propagation)).collect();
    assert_eq!(show, ["/h false 2", "/cm true 0", "/etc/hosts false 0", "/tmp/words false 0"]);
    assert_eq!(made[0].host_path, "/srv");
    assert!(made[1].host_path.ends_with("/volumes/kubernetes.io~configmap/cm"));
    assert!(dir.last_words("c", 0).exists() && dir.hosts_file().exists());
    assert!(matches!(make(1), Err(VolumeError::Unsupported(_))));
    assert!(matches!(make(2), Err(VolumeError::SubPath { .. })));
    assert!(matches!(make(3), Err(VolumeError::Unsupported(_))));
}

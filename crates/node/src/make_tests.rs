use serde_json::{Value, json};

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
    let made = sandbox(&config(), &key(), &pod, 2, "/k/podu".into(), &Resolver::default()).unwrap();
    assert_eq!(made.hostname, "h.s.ns.svc.cluster.local");
    assert_eq!(made.log_directory, "/var/lib/x/pod-logs/ns_p_u");
    assert_eq!(made.labels["io.kubernetes.pod.name"], "p", "a pod's own labels can't forge the node's");
    assert_eq!((made.labels["app"].as_str(), made.annotations["a"].as_str()), ("x", "b"));
    assert_eq!(made.metadata.unwrap().attempt, 2);
    let [port] = &made.port_mappings[..] else { panic!("{:?}", made.port_mappings) };
    assert_eq!((port.host_port, port.container_port, port.protocol), (8080, 80, v1::Protocol::Udp as i32));
    assert_eq!(made.linux.unwrap().sysctls["net.core.somaxconn"], "1");
    let on_host = pod_from(json!({"spec": {"hostNetwork": true, "containers": []}}));
    let made = sandbox(&config(), &key(), &on_host, 0, String::new(), &Resolver::default()).unwrap();
    assert_eq!(made.hostname, "host");
}

#[test]
fn a_pod_is_called_what_it_asks_for_or_not_made() {
    let name = |spec: Value| {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": []}});
        pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        hostname(&config(), &pod_from(pod)).map_err(|error| error.to_string())
    };
    let long = "a".repeat(50);
    for (spec, want) in [
        (json!({}), Ok("p".to_owned())),
        (json!({"hostname": "h", "subdomain": "s"}), Ok("h".to_owned())),
        (json!({"subdomain": "s", "setHostnameAsFQDN": true}), Ok("p.s.ns.svc.cluster.local".to_owned())),
        (json!({"setHostnameAsFQDN": true}), Ok("p".to_owned())),
        (json!({"hostnameOverride": "my.own.name", "subdomain": "s"}), Ok("my.own.name".to_owned())),
        (
            json!({"hostname": long, "subdomain": "s", "setHostnameAsFQDN": true}),
            Err(format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {long}.s.ns.svc.cluster.local \
                 is too long (64 characters is the max, 73 characters requested)"
            )),
        ),
    ] {
        assert_eq!(name(spec.clone()), want, "{spec}");
    }
}

#[test]
fn a_container_gets_its_share() {
    let pod = pod_from(
        json!({"spec": {"containers": [{"name": "c", "image": "i", "tty": true, "workingDir": "/w", "lifecycle": {"stopSignal": "SIGRTMIN+3"},
        "resources": {"requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "64Mi"}}}]}}),
    );
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
    assert_eq!(made.stop_signal(), v1::Signal::Sigrtminplus3);
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
        "volumes": [{"name": "h", "hostPath": {"path": "/srv"}}, {"name": "cm", "configMap": {"name": "x"}}, {"name": "img", "image": {"reference": "i"}}, {"name": "nfs", "nfs": {"server": "x", "path": "/"}}],
        "containers": [{"name": "c", "terminationMessagePath": "/tmp/words", "volumeMounts": [
            {"name": "h", "mountPath": "/h", "mountPropagation": "Bidirectional"}, {"name": "cm", "mountPath": "cm"}]},
            {"name": "d", "volumeMounts": [{"name": "nfs", "mountPath": "/x"}]},
            {"name": "e", "volumeMounts": [{"name": "h", "mountPath": "/h", "subPathExpr": "$(NONE)"}]},
            {"name": "f", "volumeMounts": [{"name": "none", "mountPath": "/x"}]},
            {"name": "g", "volumeMounts": [{"name": "img", "mountPath": "/i", "subPath": "a/b"}]}]}}));
    let image = v1::ImageSpec { image: "sha256:1".into(), ..v1::ImageSpec::default() };
    let images = BTreeMap::from([("img".to_owned(), image.clone())]);
    let with = MountInputs {
        dir: &dir,
        ips: &["10.0.0.1".into()],
        domain: "cluster.local",
        attempt: 0,
        recursive_read_only: true,
        images: &images,
    };
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
    let of_image = make(4).unwrap().remove(0);
    assert_eq!((of_image.image, of_image.image_sub_path.as_str()), (Some(image), "a/b"));
    assert!(of_image.readonly && of_image.host_path.is_empty());
}

#[test]
fn what_is_mounted_below_a_mount_is_read_only_where_that_can_be_had() {
    for (mount, supported, want) in [
        (json!({"readOnly": true}), true, Some(false)),
        (json!({"readOnly": true, "recursiveReadOnly": "Disabled"}), true, Some(false)),
        (json!({"readOnly": true, "recursiveReadOnly": "IfPossible"}), true, Some(true)),
        (json!({"readOnly": true, "recursiveReadOnly": "IfPossible"}), false, Some(false)),
        (json!({"readOnly": true, "recursiveReadOnly": "Enabled"}), true, Some(true)),
        (json!({"readOnly": true, "recursiveReadOnly": "Enabled"}), false, None),
        (json!({"recursiveReadOnly": "IfPossible"}), true, Some(false)),
    ] {
        let mut whole = json!({"name": "v", "mountPath": "/v"});
        whole.as_object_mut().unwrap().extend(mount.as_object().unwrap().clone());
        let whole: VolumeMount = serde_json::from_value(whole).unwrap();
        assert_eq!(recursive_read_only(&whole, supported), want, "{mount} {supported}");
    }
}

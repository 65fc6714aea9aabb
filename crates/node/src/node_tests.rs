//! Whole lives of pods, over a runtime and an API in memory.

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{WatchEvent, WatchParams};
use serde_json::{Value, json};

use crate::testing::{World, condition, isolated};

fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["initContainerStatuses", "containerStatuses"];
    let all = lists.iter().flat_map(|l| pod["status"][l].as_array().into_iter().flatten());
    all.into_iter().find(|c| c["name"] == name).unwrap_or(&Value::Null)
}

#[test]
fn a_pod_runs_is_told_and_is_deleted() {
    isolated(|| async {
        let world = World::start();
        let path =
            world.create("web", json!({"containers": [{"name": "c"}], "terminationGracePeriodSeconds": 5}));
        let pod = world.ready(&path).await;
        let status = &pod["status"];
        assert_eq!(status["phase"], "Running");
        assert_eq!(status["podIP"], "10.244.0.7");
        assert_eq!(status["hostIP"], "192.0.2.1");
        assert_eq!(status["qosClass"], "BestEffort");
        assert_eq!(status["observedGeneration"], 1);
        let c = container(&pod, "c");
        assert_eq!((&c["ready"], &c["started"], &c["restartCount"]), (&json!(true), &json!(true), &json!(0)));
        assert!(c["containerID"].as_str().unwrap().starts_with("fake://container"));
        assert!(c["state"]["running"]["startedAt"].is_string());
        for kind in ["PodReadyToStartContainers", "Initialized", "ContainersReady", "PodScheduled"] {
            assert_eq!(condition(&pod, kind), "True", "{kind}");
        }
        let conditions = pod["status"]["conditions"].as_array().unwrap();
        assert!(
            conditions.iter().all(|c| c["reason"].is_null()),
            "reasons went with the False: {conditions:?}"
        );
        world.delete(&path, 5);
        world.gone(&path).await;
        let calls = world.runtime.calls();
        assert_eq!(
            calls,
            [
                "sandbox web 0",
                "pull run:1",
                "create c 0",
                "start c",
                "stop c 5",
                "stop sandbox web",
                "remove sandbox web"
            ]
        );
        let reasons: Vec<String> = world.api.events("web").into_iter().map(|(r, _)| r).collect();
        for reason in ["Pulling", "Pulled", "Created", "Started", "Killing"] {
            assert!(reasons.iter().any(|r| r == reason), "{reason} is not in {reasons:?}");
        }
        assert!(!world.config.data_dir.join("pods/uid-web").exists());
        assert!(!world.config.log_dir.join("ns_web_uid-web").exists());
    });
}

#[test]
fn the_node_is_registered_and_keeps_its_lease() {
    isolated(|| async {
        let world = World::start();
        let node = world.until("/api/v1/nodes/n", "registered", |n| n.is_some()).await;
        assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "n");
        assert_eq!(node["status"]["nodeInfo"]["containerRuntimeVersion"], "fake://1");
        assert_eq!(condition(&node, "Ready"), "True");
        assert!(node["status"]["allocatable"]["cpu"].is_string());
        let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n";
        let lease = world.until(lease, "held", |l| l.is_some()).await;
        assert_eq!(
            (&lease["spec"]["holderIdentity"], &lease["spec"]["leaseDurationSeconds"]),
            (&json!("n"), &json!(40))
        );
        // Taken for dead, it says at once that it is not.
        world.api.change("/api/v1/nodes/n", |node| {
            for condition in node["status"]["conditions"].as_array_mut().into_iter().flatten() {
                condition["status"] = json!("Unknown");
            }
        });
        let alive = |n: Option<&Value>| n.is_some_and(|n| condition(n, "Ready") == "True");
        world.until("/api/v1/nodes/n", "alive", alive).await;
    });
}

#[test]
fn a_job_like_pod_succeeds_after_its_init_containers() {
    isolated(|| async {
        let world = World::start();
        let path = world.create(
            "job",
            json!({"restartPolicy": "Never",
                "initContainers": [{"name": "i", "image": "exit-0:1"}, {"name": "s", "restartPolicy": "Always"}],
                "containers": [{"name": "m", "image": "exit-0:1"}]}),
        );
        let pod = world.phase(&path, "Succeeded").await;
        assert_eq!(container(&pod, "m")["state"]["terminated"]["reason"], "Completed");
        let pod = world
            .until(&path, "free of its sidecar", |p| {
                p.is_some_and(|p| !container(p, "s")["state"]["terminated"].is_null())
            })
            .await;
        assert_eq!(pod["status"]["phase"], "Succeeded");
        let calls = world.runtime.calls();
        let position =
            |text: &str| calls.iter().position(|c| c == text).unwrap_or_else(|| panic!("{text}: {calls:?}"));
        assert!(position("start i") < position("start s") && position("start s") < position("start m"));
        assert!(position("start m") < position("stop s 30"));
        assert_eq!(world.runtime.remaining().1, 3, "what ended stays for its logs");
        world.api.remove(&path);
    });
}

#[test]
fn a_pod_that_fails_for_good_is_failed() {
    isolated(|| async {
        let world = World::start();
        let path = world.create(
            "bad",
            json!({"restartPolicy": "Never", "containers": [{"name": "m", "image": "exit-3:1"}]}),
        );
        let pod = world.phase(&path, "Failed").await;
        let end = &container(&pod, "m")["state"]["terminated"];
        assert_eq!((&end["exitCode"], &end["reason"]), (&json!(3), &json!("Error")));
        assert_eq!(condition(&pod, "Ready"), "False");
    });
}

#[test]
fn a_rule_restarts_a_container_that_its_policy_would_not() {
    isolated(|| async {
        let world = World::start();
        let restart = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
        let path = world.create(
            "rule",
            json!({"restartPolicy": "Never", "containers": [{"name": "m", "restartPolicy": "Never", "restartPolicyRules": restart}]}),
        );
        world.ready(&path).await;
        world.runtime.exit("m", 42);
        let again = |p: Option<&Value>| p.is_some_and(|p| container(p, "m")["restartCount"] == 1);
        let pod = world.until(&path, "restarted", again).await;
        assert_eq!(pod["status"]["phase"], "Running");
        world.ready(&path).await;
        world.runtime.exit("m", 1);
        world.phase(&path, "Failed").await;
    });
}

#[test]
fn variables_come_from_what_an_init_container_wrote() {
    isolated(|| async {
        let world = World::start();
        let source = json!({"fileKeyRef": {"volumeName": "work", "path": "vars/env", "key": "A"}});
        let path = world.create(
            "files",
            json!({"os": {"name": "linux"}, "volumes": [{"name": "work", "emptyDir": {}}],
                "initContainers": [{"name": "i", "volumeMounts": [{"name": "work", "mountPath": "/work"}]}],
                "containers": [{"name": "m", "lifecycle": {"stopSignal": "SIGUSR1"}, "env": [{"name": "V", "valueFrom": source}]}]}),
        );
        let writes = |p: Option<&Value>| p.is_some_and(|p| container(p, "i")["state"]["running"].is_object());
        world.until(&path, "initializing", writes).await;
        let volume = world.config.data_dir.join("pods/uid-files/volumes/kubernetes.io~empty-dir/work/vars");
        std::fs::create_dir_all(&volume).unwrap();
        std::fs::write(volume.join("env"), "A='two\nlines'\n").unwrap();
        world.runtime.exit("i", 0);
        let pod = world.ready(&path).await;
        let envs = world.runtime.config("m").envs;
        assert!(envs.iter().any(|e| e.key == "V" && e.value == b"two\nlines".as_slice()), "{envs:?}");
        assert_eq!(container(&pod, "m")["stopSignal"], "SIGUSR1");
    });
}

#[test]
fn a_running_pod_is_given_more_and_less() {
    isolated(|| async {
        let world = World::start();
        let amounts = |cpu: &str| json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu, "memory": "8Mi"}});
        let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        let containers = json!([
            {"name": "m", "image": "polite:1", "resources": amounts("100m"), "resizePolicy": policy}
        ]);
        let path = world.create("big", json!({"restartPolicy": "OnFailure", "containers": containers}));
        world.ready(&path).await;
        let ask = |cpu: &str, generation: i64| {
            world.api.change(&path, |pod| {
                pod["metadata"]["generation"] = json!(generation);
                for list in ["requests", "limits"] {
                    pod["spec"]["containers"][0]["resources"][list]["cpu"] = json!(cpu);
                }
            });
        };
        let has = |p: &Value, cpu: &str| {
            let c = container(p, "m");
            c["resources"]["limits"]["cpu"] == cpu && c["allocatedResources"]["cpu"] == cpu
        };
        ask("200m", 2);
        let done = |p: Option<&Value>| {
            p.is_some_and(|p| has(p, "200m") && condition(p, "PodResizeInProgress").is_empty())
        };
        let pod = world.until(&path, "larger", done).await;
        assert_eq!(
            (&container(&pod, "m")["restartCount"], &pod["status"]["observedGeneration"]),
            (&json!(0), &json!(2))
        );
        assert!(world.runtime.calls().contains(&"resize m".to_owned()));
        assert!(world.api.event("big", "ResizeCompleted").await.starts_with("Pod resize completed: {"));
        // More than the node has: it stays as it is, and says why.
        ask("1000", 3);
        let refused = |p: Option<&Value>| p.is_some_and(|p| condition(p, "PodResizePending") == "True");
        let pod = world.until(&path, "refused", refused).await;
        assert!(has(&pod, "200m"));
        let told = world.api.event("big", "ResizeInfeasible").await;
        assert!(told.contains(r#""cpu":"1000""#), "{told} does not list what is wanted");
        let world = world.restart(|_, _| {}).await;
        let pod = world.until(&path, "still refused", refused).await;
        assert!(has(&pod, "200m"), "what was given outlives the node");
        world.api.change(&path, |pod| {
            pod["metadata"]["generation"] = json!(4);
            pod["spec"]["containers"][0]["resources"] =
                json!({"requests": {"cpu": "50m"}, "limits": {"cpu": "50m", "memory": "16Mi"}});
        });
        let anew = |p: Option<&Value>| {
            p.is_some_and(|p| {
                has(p, "50m")
                    && container(p, "m")["restartCount"] == 1
                    && condition(p, "PodResizePending").is_empty()
            })
        };
        world.until(&path, "restarted with more memory", anew).await;
    });
}

#[test]
fn images_are_pulled_for_volumes_too() {
    isolated(|| async {
        let world = World::start();
        let mount = json!([{"name": "v", "mountPath": "/v"}]);
        let pod = |image: &str| {
            json!({"volumes": [{"name": "v", "image": {"reference": image}}],
                "containers": [{"name": "m", "volumeMounts": mount}]})
        };
        world.ready(&world.create("good", pod("data:1"))).await;
        assert!(world.runtime.calls().contains(&"pull data:1".to_owned()));
        let mounts = world.runtime.config("m").mounts;
        let image = mounts.iter().find_map(|m| m.image.clone()).expect("a mount of an image");
        assert_eq!(image.user_specified_image, "data:1");
        let bad = world.create("bad", pod("missing/data:1"));
        let waits = |p: Option<&Value>| {
            p.is_some_and(|p| container(p, "m")["state"]["waiting"]["reason"] == "ErrImagePull")
        };
        world.until(&bad, "waiting for its volume's image", waits).await;
        let mut text = tiphys_metrics::Exposition::new(tiphys_metrics::Format::Text);
        crate::counts::IMAGE_VOLUMES.expose(&mut text);
        let text = text.finish();
        let count = |name: &str| -> u64 {
            let line = format!("kubelet_image_volume_{name}_total ");
            text.lines().find_map(|l| l.strip_prefix(&line)).and_then(|n| n.parse().ok()).unwrap_or(0)
        };
        let (requested, failed) = (count("requested"), count("mounted_errors"));
        assert_eq!((count("mounted_succeed"), requested - failed), (1, 1), "{text}");
        assert!(failed > 0, "{text}");
    });
}

#[test]
fn trust_anchors_are_shown_and_followed() {
    isolated(|| async {
        let world = World::start();
        let bundle = "/apis/certificates.k8s.io/v1/clustertrustbundles/anchors";
        let object = |base64: &str| {
            let text = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
            json!({"kind": "ClusterTrustBundle", "apiVersion": "certificates.k8s.io/v1",
                "metadata": {"name": "anchors"}, "spec": {"trustBundle": text}})
        };
        world.api.put(bundle, object("AAAA"));
        let sources = json!([{"clusterTrustBundle": {"name": "anchors", "path": "ca.crt"}}]);
        let path = world.create(
            "trust",
            json!({"volumes": [{"name": "v", "projected": {"sources": sources}}], "containers": [{"name": "m"}]}),
        );
        world.ready(&path).await;
        let file = world.config.data_dir.join("pods/uid-trust/volumes/kubernetes.io~projected/v/ca.crt");
        assert!(std::fs::read_to_string(&file).unwrap().contains("\nAAAA\n"));
        world.api.put(bundle, object("BBBB"));
        let follows = async {
            while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains("\nBBBB\n")) {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), follows).await.expect("the file follows");
    });
}

#[test]
fn what_the_runtime_cannot_do_is_said() {
    isolated(|| async {
        let world = World::start();
        for (name, spec, text) in [
            (
                "userns",
                json!({"hostUsers": false, "containers": [{"name": "m"}]}),
                "can't set `spec.hostUsers: false`, runtime does not support user namespaces",
            ),
            (
                "class",
                json!({"runtimeClassName": "none", "containers": [{"name": "m"}]}),
                "RuntimeClass \"none\" not found",
            ),
        ] {
            world.create(name, spec);
            let failed = world.api.event(name, "FailedCreatePodSandBox").await;
            assert_eq!(failed, format!("Failed to create pod sandbox: {text}"));
        }
        world.create("gpu", json!({"resourceClaims": [{"name": "g"}], "containers": [{"name": "m"}]}));
        let failed = world.api.event("gpu", "FailedPrepareDynamicResources").await;
        assert!(failed.ends_with("no driver of devices is registered with this node"), "{failed}");
    });
}

#[test]
fn a_crashing_container_is_restarted_once_and_then_waits() {
    isolated(|| async {
        let world = World::start();
        let path = world.create("crash", json!({"containers": [{"name": "m", "image": "exit-1:1"}]}));
        let pod = world
            .until(&path, "backing off", |p| {
                p.is_some_and(|p| container(p, "m")["state"]["waiting"]["reason"] == "CrashLoopBackOff")
            })
            .await;
        let m = container(&pod, "m");
        assert_eq!(m["restartCount"], 1);
        assert_eq!(m["lastState"]["terminated"]["exitCode"], 1);
        assert_eq!(pod["status"]["phase"], "Running");
        assert_eq!(
            m["state"]["waiting"]["message"],
            "back-off 10s restarting failed container=m pod=crash_ns(uid-crash)"
        );
    });
}

#[test]
fn a_pod_whose_container_is_replaced_stays_ready() {
    isolated(|| async {
        let world = World::start();
        let path = world.create("changed", json!({"containers": [{"name": "m"}]}));
        let before = world.ready(&path).await;
        let pods: Api<Pod> = Api::namespaced(world.api.client(), "ns");
        let from = before["metadata"]["resourceVersion"].as_str().unwrap();
        let seen = pods.watch(&WatchParams::default().fields("metadata.name=changed"), from).await.unwrap();
        pin_mut!(seen);
        world.api.change(&path, |pod| pod["spec"]["containers"][0]["image"] = json!("run:2"));
        let follow = async {
            loop {
                let Some(Ok(WatchEvent::Modified(pod))) = seen.next().await else {
                    panic!("the watch ended")
                };
                let pod = json!(pod);
                assert_eq!(condition(&pod, "Ready"), "True", "{:#}", pod["status"]);
                if container(&pod, "m")["restartCount"] == 1 {
                    return;
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), follow).await.expect("another instance");
    });
}

#[test]
fn an_image_that_does_not_exist_is_said_so() {
    isolated(|| async {
        let world = World::start();
        let path = world.create("noimage", json!({"containers": [{"name": "m", "image": "missing/x:1"}]}));
        for reason in ["ErrImagePull", "ImagePullBackOff"] {
            let pod = world
                .until(&path, reason, |p| {
                    p.is_some_and(|p| container(p, "m")["state"]["waiting"]["reason"] == reason)
                })
                .await;
            assert_eq!(pod["status"]["phase"], "Pending");
        }
        world.delete(&path, 30);
        world.gone(&path).await;
    });
}

#[test]
fn what_a_container_needs_from_the_api_is_waited_for() {
    isolated(|| async {
        let world = World::start();
        let path = world.create(
            "env",
            json!({"containers": [{"name": "m", "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]}]}),
        );
        let pod = world
            .until(&path, "refused", |p| {
                p.is_some_and(|p| {
                    container(p, "m")["state"]["waiting"]["reason"] == "CreateContainerConfigError"
                })
            })
            .await;
        assert_eq!(container(&pod, "m")["state"]["waiting"]["message"], "configmap \"cm\" not found");
        world.api.put(
            "/api/v1/namespaces/ns/configmaps/cm",
            json!({"kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {"name": "cm", "namespace": "ns"}, "data": {"k": "v"}}),
        );
        world.ready(&path).await;
        let envs = world.runtime.config("m").envs;
        assert!(envs.iter().any(|e| e.key == "A" && e.value == b"v".as_slice()));
    });
}

#[test]
fn volumes_show_content_and_follow_its_changes() {
    isolated(|| async {
        let world = World::start();
        let map = "/api/v1/namespaces/ns/configmaps/cm";
        world.api.put(
            map,
            json!({"kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {"name": "cm", "namespace": "ns"}, "data": {"k": "one"}}),
        );
        let path = world.create(
            "vol",
            json!({"serviceAccountName": "sa",
                "containers": [{"name": "m", "volumeMounts": [{"name": "cm", "mountPath": "/cm"}, {"name": "e", "mountPath": "/e", "subPath": "a/b"}]}],
                "volumes": [{"name": "cm", "configMap": {"name": "cm"}}, {"name": "e", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                    {"name": "me", "downwardAPI": {"items": [{"path": "notes", "fieldRef": {"fieldPath": "metadata.annotations['note']"}}]}},
                    {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]}}]}),
        );
        world.ready(&path).await;
        let dir = world.config.data_dir.join("pods/uid-vol/volumes");
        let read = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap_or_default();
        assert_eq!(read("kubernetes.io~configmap/cm/k"), "one");
        assert_eq!(read("kubernetes.io~projected/t/token"), "token-for-vol");
        assert!(crate::volumes::mounts::is_mount_point(&dir.join("kubernetes.io~empty-dir/e")));
        assert!(dir.join("kubernetes.io~empty-dir/e/a/b").is_dir());
        let mounts = world.runtime.config("m").mounts;
        let at = |inside: &str| {
            mounts.iter().find(|m| m.container_path == inside).unwrap_or_else(|| panic!("{inside}"))
        };
        assert!(at("/cm").readonly && !at("/e").readonly);
        assert!(at("/e").host_path.contains("/volume-subpaths/e/m/1"));
        assert!(std::fs::read_to_string(&at("/etc/hosts").host_path).unwrap().contains("10.244.0.7\tvol\n"));
        at("/dev/termination-log");
        let comes = async |file: &str, content: &str| {
            for _ in 0..600 {
                if read(file) == content {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            assert_eq!(read(file), content);
        };
        world.api.change(map, |o| o["data"]["k"] = json!("two"));
        comes("kubernetes.io~configmap/cm/k", "two").await;
        world.api.change(&path, |o| o["metadata"]["annotations"] = json!({"note": "new"}));
        comes("kubernetes.io~downward-api/me/notes", "new").await;
        world.delete(&path, 0);
        world.gone(&path).await;
        assert!(!dir.exists(), "the volumes are gone before the pod is");
    });
}

#[test]
fn probes_decide_readiness_and_restarts() {
    isolated(|| async {
        let world = World::start();
        world.runtime.command("ready", 1);
        let probe = |command: &str| json!({"exec": {"command": [command]}, "periodSeconds": 1, "failureThreshold": 1});
        let path = world.create(
            "probed",
            json!({"containers": [{"name": "m", "readinessProbe": probe("ready"), "livenessProbe": probe("live")}]}),
        );
        let pod = world.phase(&path, "Running").await;
        assert_eq!(condition(&pod, "Ready"), "False");
        world.runtime.command("ready", 0);
        world.ready(&path).await;
        world.runtime.command("live", 1);
        let pod = world
            .until(&path, "restarted", |p| p.is_some_and(|p| container(p, "m")["restartCount"] == 1))
            .await;
        assert_eq!(container(&pod, "m")["lastState"]["terminated"]["exitCode"], 143);
        let messages: Vec<String> = world.api.events("probed").into_iter().map(|(_, m)| m).collect();
        assert!(
            messages.iter().any(|m| m == "Container m failed liveness probe, will be restarted"),
            "{messages:?}"
        );
    });
}

#[test]
fn a_restart_of_the_node_restarts_no_container() {
    isolated(|| async {
        let world = World::start();
        let stays = world.create(
            "stays",
            json!({"containers": [{"name": "m", "readinessProbe": {"exec": {"command": ["ready"]}}}]}),
        );
        let ends = world.create("ends", json!({"restartPolicy": "Never", "containers": [{"name": "e"}]}));
        let goes = world.create("goes", json!({"containers": [{"name": "g"}]}));
        world.ready(&stays).await;
        world.ready(&ends).await;
        world.ready(&goes).await;
        let before = world.runtime.calls().len();
        // While nobody looks, one container ends and one pod is forgotten.
        let world = world
            .restart(|runtime, api| {
                runtime.exit("e", 7);
                api.remove(&goes);
            })
            .await;
        let pod = world.phase(&ends, "Failed").await;
        assert_eq!(container(&pod, "e")["state"]["terminated"]["exitCode"], 7);
        world
            .until("/none", "cleared", |_| world.runtime.calls().iter().any(|c| c == "remove sandbox goes"))
            .await;
        let pod = world.ready(&stays).await;
        assert_eq!(container(&pod, "m")["restartCount"], 0);
        let after: Vec<String> = world.runtime.calls().split_off(before);
        assert!(
            !after.iter().any(|c| c.starts_with("create") || c.starts_with("sandbox") || c == "stop m 30"),
            "{after:?}"
        );
    });
}

#[test]
fn a_lost_sandbox_is_replaced() {
    isolated(|| async {
        let world = World::start();
        let path = world.create("lost", json!({"containers": [{"name": "m"}]}));
        world.ready(&path).await;
        world.runtime.lose_sandbox();
        world
            .until(&path, "restarted", |p| {
                p.is_some_and(|p| container(p, "m")["restartCount"] == 1 && condition(p, "Ready") == "True")
            })
            .await;
        assert!(world.runtime.calls().iter().any(|c| c == "sandbox lost 1"));
        assert!(world.api.events("lost").iter().any(|(reason, _)| reason == "SandboxChanged"));
        assert_eq!(world.runtime.sandbox().metadata.unwrap().attempt, 1);
    });
}

#[test]
fn a_pod_that_does_not_fit_is_refused() {
    isolated(|| async {
        let world = World::start();
        let path = world.create(
            "huge",
            json!({"containers": [{"name": "m", "resources": {"requests": {"cpu": "10k"}}}]}),
        );
        let pod = world.phase(&path, "Failed").await;
        assert_eq!(pod["status"]["reason"], "OutOfcpu");
        assert!(pod["status"]["containerStatuses"].is_null(), "none waits to be made");
        assert!(world.runtime.calls().is_empty());
        let path = world.create("late", json!({"activeDeadlineSeconds": 4, "containers": [{"name": "m"}]}));
        world.ready(&path).await;
        let pod = world.phase(&path, "Failed").await;
        assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
        assert_eq!(container(&pod, "m")["state"]["terminated"]["exitCode"], 143);
    });
}

#[test]
fn hooks_run_and_a_shorter_grace_period_cuts_the_end_short() {
    isolated(|| async {
        let world = World::start();
        let path = world.create(
            "hooked",
            json!({"terminationGracePeriodSeconds": 600, "containers": [{"name": "m", "image": "stubborn:1", "lifecycle": {
                "postStart": {"exec": {"command": ["hello"]}}, "preStop": {"exec": {"command": ["bye"]}}}}]}),
        );
        world.ready(&path).await;
        world.delete(&path, 600);
        world
            .until("/none", "being stopped", |_| {
                world.runtime.calls().iter().any(|c| c.starts_with("stop m"))
            })
            .await;
        world.delete(&path, 0);
        world.gone(&path).await;
        let calls = world.runtime.calls();
        assert!(
            calls.iter().any(|c| c == "exec hello") && calls.iter().any(|c| c == "exec bye"),
            "{calls:?}"
        );
        assert!(calls.iter().any(|c| c == "stop m 2"), "{calls:?}");
    });
}

#[test]
fn last_words_are_shown() {
    isolated(|| async {
        let world = World::start();
        let path = world.create("words", json!({"restartPolicy": "Never", "containers": [{"name": "m"}]}));
        world.ready(&path).await;
        std::fs::write(world.config.data_dir.join("pods/uid-words/containers/m/0"), "farewell").unwrap();
        world.runtime.exit("m", 1);
        let pod = world.phase(&path, "Failed").await;
        assert_eq!(container(&pod, "m")["state"]["terminated"]["message"], "farewell");
    });
}

#[test]
fn a_static_pod_has_a_mirror_for_as_long_as_its_manifest_is_there() {
    isolated(|| async {
        let world = World::with(|config| config.static_pods = Some(config.data_dir.join("manifests")));
        let manifests = world.config.data_dir.join("manifests");
        std::fs::create_dir_all(&manifests).unwrap();
        let write = |image: &str| {
            let text = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: s, namespace: ns}}\nspec: {{containers: [{{name: c, image: {image}}}]}}\n"
            );
            std::fs::write(manifests.join("s.yaml"), text).unwrap();
        };
        write("run:1");
        let world = world.restart(|_, _| {}).await;
        let path = format!("{}/s-n", world.pods());
        let mirror = world.ready(&path).await;
        assert_eq!(mirror["metadata"]["ownerReferences"][0]["kind"], "Node");
        let first = mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"].clone();
        // Somebody deletes the mirror: it comes back, and nothing else happens.
        world.api.remove(&path);
        world.ready(&path).await;
        assert_eq!(world.runtime.calls().iter().filter(|c| c.starts_with("create")).count(), 1);
        // Another manifest is another pod.
        write("run:2");
        world
            .until(&path, "of the new manifest", |p| {
                p.is_some_and(|p| {
                    p["metadata"]["annotations"]["kubernetes.io/config.mirror"] != first
                        && condition(p, "Ready") == "True"
                })
            })
            .await;
        std::fs::remove_file(manifests.join("s.yaml")).unwrap();
        world.gone(&path).await;
    });
}

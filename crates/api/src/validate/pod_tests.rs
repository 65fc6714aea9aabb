//! The rules of pods that are younger than 1.20, and what of a pod may change later.

use serde_json::{Value, json};

use crate::kind::{Action, Kinds};
use crate::validate::tests::{check, created, made, updated, with};

fn pod(spec: &Value) -> Value {
    with(&json!({"spec": {"containers": [{"name": "c", "image": "i"}]}}), &json!({"spec": spec}))
}

fn container(fields: &Value) -> Value {
    json!({"containers": [with(&json!({"name": "c", "image": "i"}), fields)]})
}

fn is_good(spec: &Value) {
    assert_eq!(created("", "Pod", &pod(spec)), Vec::<String>::new(), "{spec}");
}

/// Each case: a spec, and the beginning of every message that it gets.
fn are_refused(cases: &[(Value, &[&str])]) {
    for (spec, wanted) in cases {
        check(&[("", "Pod", pod(spec), wanted)]);
    }
}

#[test]
fn windows_and_linux_have_their_own() {
    are_refused(&[
        (
            json!({"os": {"name": "plan9"}}),
            &["spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\""],
        ),
        (json!({"os": {"name": ""}}), &["spec.os.name: Required value: cannot be empty"]),
        (
            with(
                &container(&json!({"securityContext": {"windowsOptions": {}}})),
                &json!({"os": {"name": "linux"},
                "securityContext": {"windowsOptions": {}}}),
            ),
            &[
                "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
                "spec.containers[0].securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
            ],
        ),
        (
            with(
                &container(&json!({"securityContext": {"privileged": true}})),
                &json!({"os": {"name": "windows"},
                "hostPID": true, "hostIPC": false, "securityContext": {"runAsUser": 1, "fsGroup": 2}}),
            ),
            &[
                "spec.hostPID: Forbidden: cannot be set for a windows pod",
                "spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
                "spec.securityContext.fsGroup: Forbidden: cannot be set for a windows pod",
                "spec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod",
            ],
        ),
        (
            json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
            &[
                "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers",
            ],
        ),
        (
            with(
                &container(&json!({"securityContext": {"windowsOptions": {"hostProcess": false}}})),
                &json!({"hostNetwork": true, "initContainers": [{"name": "i", "image": "i"}],
                    "securityContext": {"windowsOptions": {"hostProcess": true}}}),
            ),
            &[
                "spec.containers[0].securityContext.windowsOptions.hostProcess: Invalid value: false: pod hostProcess value must be identical",
                "spec: Invalid value: \"\": If pod contains any hostProcess containers then all containers must be",
            ],
        ),
    ]);
    let user = |name: &str| json!({"securityContext": {"windowsOptions": {"runAsUserName": name}}});
    for good in ["Administrator", r"NT AUTHORITY\NETWORK SERVICE", r"example.com\user", r".\user"] {
        let told = created("", "Pod", &pod(&user(good)));
        let dotted = good.starts_with('.');
        assert_eq!(told.is_empty(), !dotted, "{good}: {told:?}");
    }
    for (name, wrong) in [
        ("", "runAsUserName cannot be an empty string"),
        ("a\tb", "runAsUserName cannot contain control characters"),
        (r"a\b\c", "runAsUserName cannot contain more than one backslash"),
        (r"d\", "runAsUserName's User cannot be empty"),
        ("..", "runAsUserName's User cannot contain only periods or spaces"),
        ("a|b", "runAsUserName's User cannot contain the following characters"),
        (r"a:b\c", "runAsUserName's Domain doesn't match the NetBios nor the DNS format"),
    ] {
        let told = created("", "Pod", &pod(&user(name)));
        assert!(told.len() == 1 && told[0].contains(wrong), "{name}: {told:?}");
    }
}

#[test]
fn hosts_are_shared_or_not() {
    let unmasked = container(&json!({"securityContext": {"procMount": "Unmasked"}}));
    is_good(&with(&unmasked, &json!({"hostUsers": false})));
    let net = json!({"securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}});
    is_good(&net);
    is_good(&json!({"hostnameOverride": "a.b.example.com"}));
    are_refused(&[
        (
            unmasked,
            &[
                "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false",
            ],
        ),
        (
            json!({"hostUsers": false, "hostNetwork": true, "hostIPC": true}),
            &[
                "spec.hostNetwork: Forbidden: when `pod.Spec.HostUsers` is false",
                "spec.HostIPC: Forbidden: when `pod.Spec.HostUsers` is false",
            ],
        ),
        (
            with(&net, &json!({"hostNetwork": true})),
            &[
                "spec.securityContext.sysctls[0].name: Invalid value: \"net.core.somaxconn\": may not be specified when 'hostNetwork' is true",
            ],
        ),
        (
            json!({"hostIPC": true, "securityContext": {"sysctls": [{"name": "kernel/shm_rmid_forced", "value": "1"}]}}),
            &[
                "spec.securityContext.sysctls[0].name: Invalid value: \"kernel/shm_rmid_forced\": may not be specified when 'hostIPC' is true",
            ],
        ),
        (
            json!({"hostnameOverride": "A", "setHostnameAsFQDN": true}),
            &[
                "spec.hostnameOverride: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
                "spec.hostnameOverride: Forbidden: may not be specified when `spec.setHostnameAsFQDN` is true",
            ],
        ),
        (
            with(
                &container(&json!({"ports": [{"containerPort": 80, "hostPort": 81}]})),
                &json!({"hostNetwork": true}),
            ),
            &[
                "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
            ],
        ),
        (
            json!({"securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": " x"}, "seLinuxChangePolicy": "No"}}),
            &[
                "spec.securityContext.appArmorProfile.localhostProfile: Invalid value: \" x\": must not be padded with whitespace",
                "spec.securityContext.seLinuxChangePolicy: Unsupported value: \"No\": supported values: \"MountOption\", \"Recursive\"",
            ],
        ),
    ]);
}

#[test]
fn containers_restart_and_end_by_their_own_rules() {
    let rule = json!({"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}});
    is_good(&container(&json!({"restartPolicy": "Never", "restartPolicyRules": [rule]})));
    is_good(&with(
        &container(&json!({"lifecycle": {"stopSignal": "SIGRTMIN+15"}})),
        &json!({"os": {"name": "linux"}}),
    ));
    is_good(&container(
        &json!({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}),
    ));
    are_refused(&[
        (
            container(
                &json!({"restartPolicyRules": [{"action": "Stop", "exitCodes": {"operator": "Is"}}, {"action": "Restart"}]}),
            ),
            &[
                "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
                "spec.containers[0].restartPolicyRules[0].action: Unsupported value: \"Stop\": supported values: \"Restart\"",
                "spec.containers[0].restartPolicyRules[0].exitCodes.operator: Unsupported value: \"Is\": supported values: \"In\", \"NotIn\"",
                "spec.containers[0].restartPolicyRules[1].exitCodes: Required value",
            ],
        ),
        (
            container(&json!({"restartPolicy": "Sometimes"})),
            &[
                "spec.containers[0].restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"",
            ],
        ),
        (
            container(&json!({"lifecycle": {"stopSignal": "SIGTERM"}})),
            &[
                "spec.containers[0].lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`",
            ],
        ),
        (
            with(
                &container(&json!({"lifecycle": {"stopSignal": "SIGRTMIN+16"}})),
                &json!({"os": {"name": "linux"}}),
            ),
            &[
                "spec.containers[0].lifecycle.stopSignal: Unsupported value: \"SIGRTMIN+16\": supported values: \"SIGABRT\"",
            ],
        ),
        (
            container(&json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}})),
            &[
                "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
            ],
        ),
        (
            with(
                &container(
                    &json!({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"},
                    {"resourceName": "cpu", "restartPolicy": "NotRequired"}, {"resourceName": "gpu", "restartPolicy": "NotRequired"}]}),
                ),
                &json!({"restartPolicy": "Never"}),
            ),
            &[
                "spec.containers[0].resizePolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when `restartPolicy` is 'Never'",
                "spec.containers[0].resizePolicy[1]: Duplicate value: \"cpu\"",
                "spec.containers[0].resizePolicy: Unsupported value: \"gpu\": supported values: \"cpu\", \"memory\"",
            ],
        ),
        (
            container(
                &json!({"env": [{"name": "A", "valueFrom": {"fileKeyRef": {"key": "", "path": "/a", "volumeName": "v"}}}]}),
            ),
            &[
                "spec.containers[0].env[0].valueFrom.fileKeyRef.key: Required value",
                "spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: Not found: \"v\"",
                "spec.containers[0].env[0].valueFrom.fileKeyRef.path: Invalid value: \"/a\": must be a relative path",
            ],
        ),
    ]);
    let mount = |mode: &Value| {
        with(
            &container(&json!({"volumeMounts": [with(&json!({"name": "v", "mountPath": "/v"}), mode)]})),
            &json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        )
    };
    is_good(&mount(&json!({"recursiveReadOnly": "Enabled", "readOnly": true, "mountPropagation": "None"})));
    are_refused(&[(
        mount(&json!({"recursiveReadOnly": "IfPossible"})),
        &[
            "spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
        ],
    )]);
}

#[test]
fn resources_of_pods_and_claims_to_devices() {
    let asks = |name: &str, amount: &str| json!({"resources": {"requests": {name: amount}, "limits": {name: amount}}});
    is_good(&with(
        &container(&asks("cpu", "1")),
        &json!({"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}),
    ));
    let claims = json!({"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]});
    is_good(&with(
        &container(
            &json!({"resources": {"claims": [{"name": "gpu", "request": "a"}, {"name": "gpu", "request": "b"}]}}),
        ),
        &claims,
    ));
    are_refused(&[
        (
            with(
                &container(&asks("cpu", "3")),
                &json!({"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}),
            ),
            &[
                "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 3",
                "spec.resources.containers[0][cpu].limits: Invalid value: \"3\": must be less than or equal to pod limits of 2",
            ],
        ),
        (
            json!({"resources": {"requests": {"ephemeral-storage": "1"}}}),
            &[
                "spec.resources.requests[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
            ],
        ),
        (
            container(
                &json!({"resources": {"limits": {"hugepages-2Mi": "3Mi", "cpu": "1"}, "requests": {"hugepages-2Mi": "3Mi"}}}),
            ),
            &[
                "spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                "spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
            ],
        ),
        (
            with(
                &container(
                    &json!({"resources": {"claims": [{"name": "gpu"}, {"name": "gpu", "request": "a"}, {"name": "x"}]}}),
                ),
                &claims,
            ),
            &[
                "spec.containers[0].resources.claims[1]: Duplicate value: \"gpu\"",
                "spec.containers[0].resources.claims[2]: Not found: \"x\": must be one of the names in pod.spec.resourceClaims: gpu",
            ],
        ),
        (
            json!({"resourceClaims": [{"name": "a"}, {"name": "b", "resourceClaimName": "x", "resourceClaimTemplateName": "y"}]}),
            &[
                "spec.resourceClaims[0]: Invalid value: {\"name\":\"a\"}: must specify one of: `resourceClaimName`",
                "spec.resourceClaims[1]: Invalid value: {",
            ],
        ),
    ]);
}

#[test]
fn keys_of_labels_become_selectors() {
    let term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}},
        "matchLabelKeys": ["hash", "absent"], "mismatchLabelKeys": ["tenant"]});
    let spread = json!({"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {}, "matchLabelKeys": ["hash"]});
    let spec = json!({"topologySpreadConstraints": [spread],
        "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    let labelled = with(&pod(&spec), &json!({"metadata": {"labels": {"hash": "1", "tenant": "t"}}}));
    assert_eq!(created("", "Pod", &labelled), Vec::<String>::new());
    let object = made("", "Pod", &labelled);
    let same = json!({"key": "hash", "operator": "In", "values": ["1"]});
    let selector = &object["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        [0]["labelSelector"];
    assert_eq!(
        selector["matchExpressions"],
        json!([same, {"key": "tenant", "operator": "NotIn", "values": ["t"]}])
    );
    let spread = &object["spec"]["topologySpreadConstraints"][0]["labelSelector"];
    assert_eq!(spread["matchExpressions"], json!([same]));

    let twice = with(
        &labelled,
        &json!({"spec": {"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"hash": "1"}}, "matchLabelKeys": ["hash"]}],
        "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "matchLabelKeys": ["a"], "mismatchLabelKeys": ["a"]}]}}}}),
    );
    let wanted: &[&str] = &[
        "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
        "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].mismatchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
        "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys[0]: Invalid value: \"a\": exists in both matchLabelKeys and mismatchLabelKeys",
        "spec.topologySpreadConstraints[0].matchLabelKeys[0]: Invalid value: \"hash\": exists in both matchLabelKeys and labelSelector",
    ];
    check(&[("", "Pod", twice, wanted)]);
}

#[test]
fn annotations_mean_what_fields_mean() {
    let annotated =
        |annotations: Value| with(&pod(&json!({})), &json!({"metadata": {"annotations": annotations}}));
    let cost = "controller.kubernetes.io/pod-deletion-cost";
    for (value, good) in
        [("-5", true), ("0", true), ("2147483647", true), ("+1", false), ("01", false), ("x", false)]
    {
        let told = created("", "Pod", &annotated(json!({cost: value})));
        assert_eq!(told.is_empty(), good, "{value}: {told:?}");
    }
    let wanted: [(Value, &[&str]); 4] = [
        (
            json!({"kubernetes.io/config.mirror": "x"}),
            &[
                "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"x\": must set spec.nodeName",
            ],
        ),
        (
            json!({"seccomp.security.alpha.kubernetes.io/pod": "wild"}),
            &[
                "metadata.annotations.seccomp.security.alpha.kubernetes.io/pod: Invalid value: \"wild\": must be a valid seccomp profile",
            ],
        ),
        (
            json!({"container.apparmor.security.beta.kubernetes.io/c": "wild"}),
            &[
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: Invalid value: \"wild\": invalid AppArmor profile name: \"wild\"",
            ],
        ),
        (
            json!({"container.apparmor.security.beta.kubernetes.io/d": "unconfined"}),
            &[
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/d]: Invalid value: \"d\": container not found",
            ],
        ),
    ];
    for (annotations, wanted) in wanted {
        check(&[("", "Pod", annotated(annotations), wanted)]);
    }
    let differs = with(
        &annotated(json!({"seccomp.security.alpha.kubernetes.io/pod": "unconfined"})),
        &json!({"spec": {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}}),
    );
    check(&[(
        "",
        "Pod",
        differs,
        &[
            "spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match",
        ],
    )]);
    let armed = annotated(json!({"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}));
    assert_eq!(
        updated("", "Pod", &armed, &pod(&json!({}))),
        [
            "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: Forbidden: may not remove or update AppArmor annotations"
        ]
    );
}

#[test]
fn a_gated_pod_asks_more_of_nodes_never_other() {
    let term = |key: &str| json!({"matchExpressions": [{"key": key, "operator": "Exists"}]});
    let asks = |terms: Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
    let old = pod(
        &json!({"schedulingGates": [{"name": "x.io/wait"}], "nodeSelector": {"a": "b"}, "affinity": asks(json!([term("k")]))}),
    );
    let change = |spec: Value| updated("", "Pod", &old, &with(&old, &json!({"spec": spec})));
    let more = json!([{"matchExpressions": [{"key": "k", "operator": "Exists"}, {"key": "l", "operator": "Exists"}]}]);
    for allowed in
        [json!({"nodeSelector": {"c": "d"}}), json!({"affinity": asks(more)}), json!({"schedulingGates": []})]
    {
        assert_eq!(change(allowed.clone()), Vec::<String>::new(), "{allowed}");
    }
    assert_eq!(
        change(json!({"nodeSelector": {"a": "other"}})),
        [
            "spec.nodeSelector: Invalid value: {\"a\":\"other\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        ]
    );
    let told = change(json!({"affinity": asks(json!([term("k"), term("l")]))}));
    assert!(
        told.len() == 1
            && told[0].ends_with("no additions/deletions to non-empty NodeSelectorTerms list are allowed"),
        "{told:?}"
    );
    let told = change(json!({"affinity": asks(json!([term("l")]))}));
    assert!(
        told.len() == 1 && told[0].ends_with("only additions are allowed (no mutations or deletions)"),
        "{told:?}"
    );
    let told = change(json!({"schedulingGates": [{"name": "x.io/wait"}, {"name": "x.io/more"}]}));
    assert_eq!(
        told,
        [
            "spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'x.io/more'"
        ]
    );
}

/// What a subresource of pods says to a change.
fn part(name: &str, new: &Value, old: &Value) -> Vec<String> {
    let kinds = Kinds::builtin();
    let row = kinds.kind("", "v1", "Pod").unwrap();
    let Action::Update(update) = &row.subresource(name).unwrap().action else { panic!("an update") };
    let mut new = new.clone();
    (update.prepare)(&mut new, old);
    (update.validate)(&new, old).iter().map(ToString::to_string).collect()
}

#[test]
fn a_resize_changes_cpu_and_memory_alone() {
    let with_cpu = |cpu: &str, memory: &str| json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]});
    let old = made("", "Pod", &pod(&with_cpu("1", "1Gi")));
    let to = |spec: &Value| part("resize", &made("", "Pod", &pod(spec)), &old);
    assert_eq!(to(&with_cpu("2", "2Gi")), Vec::<String>::new());
    let with_policy = json!({"containers": [{"name": "c", "image": "i", "resizePolicy": [{"resourceName": "cpu",
        "restartPolicy": "RestartContainer"}], "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}]});
    assert_eq!(to(&with_policy), Vec::<String>::new());
    let fewer = json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]});
    assert_eq!(
        to(&fewer)[0],
        "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"
    );
    let disk = json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1"}}}]});
    assert_eq!(to(&disk), ["spec: Forbidden: only cpu and memory resources are mutable"]);
    let best_effort = made("", "Pod", &pod(&json!({})));
    let told = part("resize", &made("", "Pod", &pod(&with_cpu("1", "1Gi"))), &best_effort);
    assert_eq!(
        told,
        ["spec: Invalid value: \"BestEffort\": Pod QOS Class may not change as a result of resizing"]
    );
}

#[test]
fn what_a_kubelet_may_not_say() {
    let old = made(
        "",
        "Pod",
        &pod(
            &json!({"restartPolicy": "Never", "resourceClaims": [{"name": "gpu", "resourceClaimName": "x"}],
        "containers": [{"name": "c", "image": "i"}, {"name": "again", "image": "i", "restartPolicy": "Always"}]}),
        ),
    );
    let ended = |name: &str| json!({"name": name, "state": {"terminated": {"exitCode": 0}}});
    let old = with(&old, &json!({"status": {"containerStatuses": [ended("c"), ended("again")]}}));
    let says = |status: Value| part("status", &with(&old, &json!({"status": status})), &old);
    let running = |name: &str| json!({"name": name, "state": {"running": {}}});
    assert_eq!(says(json!({"containerStatuses": [ended("c"), running("again")]})), Vec::<String>::new());
    assert_eq!(
        says(json!({"containerStatuses": [running("c"), ended("again")]})),
        ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]
    );
    assert_eq!(
        says(json!({"qosClass": "Guaranteed"})),
        ["status.qosClass: Invalid value: \"Guaranteed\": field is immutable"]
    );
    assert_eq!(
        says(json!({"hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.2"}]})),
        ["status.hostIPs[0].ip: Invalid value: \"10.0.0.2\": must be equal to `hostIP`"]
    );
    assert_eq!(
        says(json!({"resourceClaimStatuses": [{"name": "gpu"}, {"name": "tpu"}]})),
        [
            "status.resourceClaimStatuses[1].name: Invalid value: \"tpu\": must match the name of an entry in `spec.resourceClaims`"
        ]
    );
    let extended = |mappings: Value| {
        says(
            json!({"extendedResourceClaimStatus": {"resourceClaimName": "p-x", "requestMappings": mappings}}),
        )
    };
    let mapping =
        json!({"containerName": "no", "resourceName": "x.io/gpu", "requestName": "container-0-request-0"});
    assert_eq!(
        extended(json!([mapping, mapping])),
        [
            "status.extendedResourceClaimStatus.requestMappings[0].containerName: Invalid value: \"no\": must match the name of an entry in `spec.initContainers` or `spec.containers`",
            "status.extendedResourceClaimStatus.requestMappings[1].containerName: Invalid value: \"no\": must match the name of an entry in `spec.initContainers` or `spec.containers`",
            "status.extendedResourceClaimStatus.requestMappings[1]: Duplicate value: {\"containerName\":\"no\",\"requestName\":\"container-0-request-0\",\"resourceName\":\"x.io/gpu\"}",
        ]
    );
    assert_eq!(
        extended(json!([])),
        [
            "status.extendedResourceClaimStatus.requestMappings: Required value: at least one request mapping is required"
        ]
    );
    assert_eq!(
        says(json!({"conditions": [{"type": "a b", "status": "True"}]}))[0].split(": ").next(),
        Some("metadata.conditions[0].Type")
    );
}

#[test]
fn what_volumes_project_has_its_own_path() {
    let projected = |sources: Value| json!({"serviceAccountName": "s", "volumes": [{"name": "v", "projected": {"sources": sources}}]});
    is_good(&projected(json!([
        {"clusterTrustBundle": {"signerName": "example.com/s", "labelSelector": {}, "path": "a"}},
        {"clusterTrustBundle": {"name": "example.com:s:b", "path": "b"}},
        {"podCertificate": {"signerName": "example.com/s", "keyType": "ED25519", "keyPath": "c", "maxExpirationSeconds": 3600}},
        {"serviceAccountToken": {"path": "d"}},
    ])));
    let at = |i: usize, rest: &str| format!("spec.volumes[0].projected.sources[{i}].{rest}");
    let told = created(
        "",
        "Pod",
        &pod(&projected(json!([
            {"clusterTrustBundle": {"path": "../a"}},
            {"clusterTrustBundle": {"name": "a", "signerName": "example.com/s", "path": "b"}},
            {"podCertificate": {"signerName": "example.com/s", "keyType": "DSA", "maxExpirationSeconds": 1}},
            {"serviceAccountToken": {"path": "b"}},
        ]))),
    );
    let begins = [
        at(0, "clusterTrustBundle: Required value: either name or signerName must be specified"),
        at(0, "clusterTrustBundle.path: Invalid value: \"../a\": must not contain '..'"),
        at(1, "clusterTrustBundle: Invalid value: {"),
        at(2, "podCertificate.keyType: Unsupported value: \"DSA\": supported values: \"ECDSAP256\""),
        at(
            2,
            "podCertificate.maxExpirationSeconds: Invalid value: 1: if provided, maxExpirationSeconds must be >= 3600",
        ),
        at(2, "podCertificate: Required value: specify at least one of credentialBundlePath"),
        "spec.volumes[0].projected: Invalid value: \"b\": conflicting duplicate paths".to_owned(),
    ];
    assert_eq!(told.len(), begins.len(), "{told:#?}");
    for (told, begin) in told.iter().zip(begins) {
        assert!(told.starts_with(&begin), "{told}\n{begin}");
    }
}

#[test]
fn a_name_that_is_not_there_is_an_empty_one() {
    for name in [json!({}), json!({"name": ""})] {
        let key = with(&json!({"key": "k"}), &name);
        let spec = container(&json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": key}}]}));
        are_refused(&[(
            spec,
            &[
                "spec.containers[0].env[0].valueFrom.configMapKeyRef.name: Invalid value: \"\": a lowercase RFC 1123",
            ],
        )]);
    }
}

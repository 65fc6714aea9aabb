use serde_json::json;

use super::{checks, *};
use crate::{admission::tests::Case, source::fake::Table};

fn namespace(labels: Value) -> PodSecurity {
    let object = json!({ "metadata": { "name": "ns", "labels": labels } });
    PodSecurity::new(Arc::new(Table::with(&[("", "namespaces", object)])), Arc::default())
}

/// As [`namespace`], on a server that is configured so.
fn configured(labels: Value, defaults: Value, exemptions: Value) -> PodSecurity {
    let file = json!({"apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration",
                      "defaults": defaults, "exemptions": exemptions});
    let config = Config::parse(file.to_string().as_bytes()).unwrap();
    PodSecurity { config: Arc::new(config), ..namespace(labels) }
}

fn level(mode: &str, level: &str) -> PodSecurity {
    namespace(json!({ format!("{LABEL}{mode}"): level }))
}

/// A pod that keeps to the strictest level.
fn restricted() -> Value {
    json!({
        "metadata": { "name": "p" },
        "spec": {
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{ "name": "c", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }],
            "volumes": [{ "name": "v", "emptyDir": {} }],
        },
    })
}

fn plain() -> Value {
    json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c" }] } })
}

async fn create(plugin: &PodSecurity, pod: Value) -> Result<(), String> {
    let case = Case::new(Operation::Create, "pods", "");
    case.run(plugin, pod, Value::Null).await.map(|_| ()).map_err(|(_, message)| message)
}

#[tokio::test]
async fn namespaces_decide_what_their_pods_may() {
    for open in [namespace(Value::Null), level("enforce", "privileged"), level("warn", "restricted")] {
        assert_eq!(create(&open, plain()).await, Ok(()));
    }
    assert_eq!(create(&level("enforce", "baseline"), plain()).await, Ok(()));
    assert_eq!(create(&level("enforce", "restricted"), restricted()).await, Ok(()));
    assert_eq!(
        create(&level("enforce", "restricted"), plain()).await,
        Err("pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != \
             false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted \
             capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot \
             != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod \
             or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
             \"Localhost\")"
            .to_owned())
    );
    assert!(create(&level("enforce", "nonsense"), plain()).await.is_err(), "the strictest, to be safe");
}

#[tokio::test]
async fn updates_are_judged_where_they_change_the_spec() {
    let strict = level("enforce", "baseline");
    let mut host = plain();
    host["spec"]["hostNetwork"] = true.into();
    let case = Case::new(Operation::Update, "pods", "p");
    let mut labelled = host.clone();
    labelled["metadata"]["labels"] = json!({ "a": "b" });
    assert!(case.run(&strict, labelled, host.clone()).await.is_ok());
    assert!(case.run(&strict, host.clone(), plain()).await.is_err());
    let status = Case::new(Operation::Update, "pods/status", "p");
    assert!(status.run(&strict, host, plain()).await.is_ok());
}

#[tokio::test]
async fn warnings_tell_what_would_be_refused() {
    let plugin = level("warn", "baseline");
    let mut host = plain();
    host["spec"]["hostPID"] = true.into();
    let want = ["would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"];
    let pods = Case::new(Operation::Create, "pods", "");
    assert_eq!(pods.warnings(&plugin, &host), want);
    assert!(pods.warnings(&plugin, &plain()).is_empty());
    let deployments = Case { group: "apps", ..Case::new(Operation::Create, "deployments", "") };
    assert_eq!(deployments.warnings(&plugin, &json!({ "spec": { "template": host } })), want);
    let services = Case::new(Operation::Create, "services", "");
    assert!(services.warnings(&plugin, &host).is_empty());
}

#[tokio::test]
async fn what_is_enforced_is_told_of_what_makes_pods() {
    let deployments = Case { group: "apps", ..Case::new(Operation::Create, "deployments", "") };
    let warned = |plugin: &PodSecurity| {
        let warnings = deployments.warnings(plugin, &json!({ "spec": { "template": plain() } }));
        warnings.first().map(|w| w.split('"').nth(1).unwrap().to_owned())
    };
    assert_eq!(warned(&level("enforce", "restricted")).as_deref(), Some("restricted:latest"));
    let versioned = json!({ "pod-security.kubernetes.io/enforce": "restricted",
                            "pod-security.kubernetes.io/enforce-version": "v1.30" });
    assert_eq!(warned(&namespace(versioned)).as_deref(), Some("restricted:v1.30"));
    let quiet = json!({ "pod-security.kubernetes.io/enforce": "restricted",
                        "pod-security.kubernetes.io/warn": "privileged" });
    assert_eq!(warned(&namespace(quiet)), None);
}

#[tokio::test]
async fn defaults_hold_where_no_label_does() {
    let defaults = json!({ "enforce": "baseline", "enforce-version": "v1.30", "warn": "restricted" });
    let plugin = |labels| configured(labels, defaults.clone(), json!({}));
    let mut host = plain();
    host["spec"]["hostPID"] = true.into();
    let refused = create(&plugin(Value::Null), host.clone()).await.unwrap_err();
    assert!(refused.contains("violates PodSecurity \"baseline:v1.30\": host namespaces"), "{refused}");
    assert_eq!(create(&plugin(Value::Null), plain()).await, Ok(()));
    assert_eq!(
        create(&plugin(json!({ "pod-security.kubernetes.io/enforce": "privileged" })), host).await,
        Ok(())
    );
    let case = Case::new(Operation::Create, "pods", "");
    assert_eq!(case.warnings(&plugin(Value::Null), &plain()).len(), 1);
}

#[tokio::test]
async fn exemptions_are_let_through_in_silence() {
    let strict = json!({ "enforce": "restricted", "warn": "restricted" });
    let case = Case::new(Operation::Create, "pods", "");
    let user = case.user.name();
    for (exemptions, exempt) in [
        (json!({ "namespaces": ["ns"] }), true),
        (json!({ "namespaces": ["other"] }), false),
        (json!({ "usernames": [user] }), true),
        (json!({ "runtimeClasses": ["gvisor"] }), true),
        (json!({ "runtimeClasses": ["kata"] }), false),
    ] {
        let plugin = configured(Value::Null, strict.clone(), exemptions.clone());
        let mut pod = plain();
        pod["spec"]["runtimeClassName"] = "gvisor".into();
        assert_eq!(create(&plugin, pod.clone()).await.is_ok(), exempt, "{exemptions}");
        assert_eq!(case.warnings(&plugin, &pod).is_empty(), exempt, "{exemptions}");
    }
}

#[test]
fn wrong_configurations_name_their_fields() {
    let parse = |fields: Value| {
        let mut file = json!({"apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration"});
        file.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Config::parse(file.to_string().as_bytes()).map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(parse(json!({})), Ok(()));
    let cases = [
        (json!({ "defaults": { "enforce": "strict" } }), "defaults.enforce: Invalid value: \"strict\""),
        (json!({ "defaults": { "warn-version": "1.30" } }), "defaults.warn-version: Invalid value: \"1.30\""),
        (json!({ "exemptions": { "usernames": [""] } }), "exemptions.usernames[0]: Invalid value: \"\""),
        (
            json!({ "exemptions": { "namespaces": ["a", "a"] } }),
            "exemptions.namespaces[1]: Duplicate value: \"a\"",
        ),
        (json!({ "exemptions": { "namespaces": ["A"] } }), "exemptions.namespaces[0]: Invalid value: \"A\""),
        (
            json!({ "exemptions": { "runtimeClasses": ["a b"] } }),
            "exemptions.runtimeClasses[0]: Invalid value",
        ),
        (
            json!({ "level": "baseline" }),
            "it is no PodSecurityConfiguration of pod-security.admission.config.k8s.io",
        ),
    ];
    for (fields, why) in cases {
        let error = parse(fields.clone()).unwrap_err();
        assert!(error.starts_with(why), "{fields}: {error}");
    }
}

#[tokio::test]
async fn labels_must_name_a_level() {
    let plugin = namespace(Value::Null);
    let case = Case::new(Operation::Create, "namespaces", "");
    let run = async |labels: Value| {
        let object = json!({ "metadata": { "name": "x", "labels": labels } });
        case.run(&plugin, object, Value::Null).await.map(|_| ())
    };
    assert_eq!(run(json!({ "pod-security.kubernetes.io/enforce": "baseline" })).await, Ok(()));
    assert_eq!(run(json!({ "pod-security.kubernetes.io/enforce-version": "v1.37" })).await, Ok(()));
    for (key, value) in
        [("enforce", "strict"), ("warn", ""), ("audit-version", "1.37"), ("warn-version", "v1.")]
    {
        let (code, message) = run(json!({ format!("{LABEL}{key}"): value })).await.unwrap_err();
        assert_eq!(code, 422);
        assert!(
            message.contains(&format!("metadata.labels[{LABEL}{key}]: Invalid value: {value:?}")),
            "{message}"
        );
    }
}

/// What each single setting is refused for, and at which level.
#[test]
fn every_check_finds_its_setting() {
    use Level::{Baseline, Restricted};
    let cases: Vec<(Level, &str, Value, &str)> = vec![
        (Baseline, "/spec/hostNetwork", json!(true), "host namespaces (hostNetwork=true)"),
        (Baseline, "/spec/hostIPC", json!(true), "host namespaces (hostIPC=true)"),
        (
            Baseline,
            "/spec/containers/0/securityContext/privileged",
            json!(true),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            Baseline,
            "/spec/containers/0/securityContext/capabilities/add",
            json!(["SYS_ADMIN", "CHOWN"]),
            "non-default capabilities (container \"c\" must not include \"SYS_ADMIN\" in \
             securityContext.capabilities.add)",
        ),
        (
            Restricted,
            "/spec/containers/0/securityContext/capabilities/add",
            json!(["CHOWN"]),
            "unrestricted capabilities (container \"c\" must not include \"CHOWN\" in \
             securityContext.capabilities.add)",
        ),
        (
            Baseline,
            "/spec/volumes",
            json!([{ "name": "h", "hostPath": {} }]),
            "hostPath volumes (volume \"h\")",
        ),
        (
            Restricted,
            "/spec/volumes",
            json!([{ "name": "h", "hostPath": {} }, { "name": "n", "nfs": {} }]),
            "restricted volume types (volumes \"h\", \"n\" use restricted volume types \"hostPath\", \"nfs\")",
        ),
        (
            Baseline,
            "/spec/containers/0/ports",
            json!([{ "hostPort": 81 }, { "hostPort": 80 }, { "hostPort": 0 }]),
            "hostPort (container \"c\" uses hostPorts 80, 81)",
        ),
        (
            Baseline,
            "/spec/containers/0/livenessProbe",
            json!({ "httpGet": { "host": "10.0.0.1" } }),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"10.0.0.1\")",
        ),
        (
            Baseline,
            "/spec/securityContext/windowsOptions",
            json!({ "hostProcess": true }),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            Baseline,
            "/spec/containers/0/securityContext/procMount",
            json!("Unmasked"),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            Baseline,
            "/spec/securityContext/seLinuxOptions",
            json!({ "type": "spc_t", "user": "u" }),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
        ),
        (
            Baseline,
            "/spec/securityContext/seccompProfile",
            json!({ "type": "Unconfined" }),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            Baseline,
            "/spec/securityContext/sysctls",
            json!([{ "name": "kernel.msgmax" }, { "name": "net.ipv4.tcp_rmem" }]),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            Baseline,
            "/spec/securityContext/appArmorProfile",
            json!({ "type": "Unconfined" }),
            "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            Restricted,
            "/spec/containers/0/securityContext/allowPrivilegeEscalation",
            Value::Null,
            "allowPrivilegeEscalation != false (container \"c\" must set \
             securityContext.allowPrivilegeEscalation=false)",
        ),
        (
            Restricted,
            "/spec/containers/0/securityContext/runAsNonRoot",
            json!(false),
            "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false)",
        ),
        (
            Restricted,
            "/spec/securityContext/runAsUser",
            json!(0),
            "runAsUser=0 (pod must not set runAsUser=0)",
        ),
    ];
    for (level, path, value, want) in cases {
        let mut pod = restricted();
        let (parent, field) = path.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[field] = value;
        let found: Vec<String> = checks::run(level, &pod["metadata"], &pod["spec"])
            .iter()
            .map(|v| format!("{} ({})", v.reason, v.detail))
            .collect();
        assert_eq!(found, [want], "{path}");
        assert_eq!(checks::run(Level::Privileged, &pod["metadata"], &pod["spec"]), []);
    }
}

#[test]
fn init_and_ephemeral_containers_count_too() {
    for list in ["initContainers", "ephemeralContainers"] {
        let mut pod = restricted();
        pod["spec"][list] = json!([{ "name": "x", "securityContext": { "privileged": true } }]);
        let found = checks::run(Level::Baseline, &pod["metadata"], &pod["spec"]);
        assert_eq!(found[0].detail, "container \"x\" must not set securityContext.privileged=true", "{list}");
    }
}

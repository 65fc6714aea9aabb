//! Objects in the hands of kubectl: made, read, changed, watched, deleted.

use std::io::{BufRead, BufReader};

use anyhow::{Context, Result, ensure};
use tiphys_testkit::{Cluster, image::Image};

use crate::field;

#[test]
fn objects_are_made_read_changed_and_deleted() -> Result<()> {
    let mut cluster = Cluster::start(63)?;
    cluster.import(&Image::busybox(&["busybox:1"], &["sleep", "3600"]))?;
    generators(&cluster)?;
    reads(&cluster)?;
    patches(&mut cluster)?;
    applies(&cluster)?;
    waits_and_watches(&cluster)?;
    deletes(&cluster)?;
    questions(&cluster)?;
    nodes(&cluster)
}

/// Everything that `kubectl create` can make of flags.
fn generators(cluster: &Cluster) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("file");
    std::fs::write(&file, "content")?;
    let from = format!("--from-file={}", file.display());
    let [certificate, key] = certificate(dir.path())?;
    for arguments in [
        &["configmap", "map", &from, "--from-literal=a=b"][..],
        &["secret", "generic", "plain", &from, "--from-literal=password=hidden"],
        &["secret", "tls", "tls", &certificate, &key],
        &[
            "secret",
            "docker-registry",
            "pull",
            "--docker-server=r",
            "--docker-username=u",
            "--docker-password=p",
        ],
        &["serviceaccount", "robot"],
        &["role", "reader", "--verb=get,list", "--resource=pods,deployments.apps"],
        &["rolebinding", "reads", "--role=reader", "--serviceaccount=default:robot"],
        &["clusterrole", "metrics", "--verb=get", "--non-resource-url=/metrics"],
        &["clusterrolebinding", "measures", "--clusterrole=metrics", "--user=bob", "--group=guests"],
        &["priorityclass", "urgent", "--value=10"],
        &["namespace", "elsewhere"],
        &["service", "clusterip", "inside", "--tcp=80:80"],
        &["service", "nodeport", "outside", "--tcp=80:80"],
        &["service", "loadbalancer", "balanced", "--tcp=80:80"],
        &["service", "externalname", "alias", "--external-name=example.com"],
        &["poddisruptionbudget", "few", "--selector=app=none", "--min-available=1"],
        &["ingress", "way", "--rule=host/path=inside:80"],
        &["job", "once", "--image=busybox:1", "--", "true"],
        &["deployment", "web", "--image=busybox:1", "--port=80"],
    ] {
        let made = cluster.kubectl(["create"].iter().chain(arguments))?;
        ensure!(made.trim_end().ends_with(" created"), "{arguments:?}: {made}");
    }
    ensure!(cluster.kubectl(["get", "configmap", "map", &field(".data.file")])? == "content");
    let described = cluster.kubectl(["describe", "secret", "plain"])?;
    ensure!(described.contains("password:  6 bytes") && !described.contains("hidden"), "{described}");
    let token = cluster.kubectl(["create", "token", "robot", "--duration=20m"])?;
    let asked = cluster
        .try_kubectl_with_token(token.trim(), ["auth", "whoami", &field(".status.userInfo.username")])?;
    ensure!(asked.stdout == b"system:serviceaccount:default:robot", "{asked:?}");
    let refused = cluster.try_kubectl_with_token(token.trim(), ["get", "secrets"])?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        said.contains("User \"system:serviceaccount:default:robot\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\""),
        "{said}"
    );
    let said = cluster.refused(["create", "configmap", "map"])?;
    ensure!(said.contains("configmaps \"map\" already exists"), "{said}");
    Ok(())
}

/// `--cert` and `--key` for `kubectl create secret tls`.
fn certificate(dir: &std::path::Path) -> Result<[String; 2]> {
    let pki = tiphys_pki::Pki::open(dir)?;
    let credential = pki.cluster.issue(&tiphys_pki::Leaf::admin(), std::time::SystemTime::now())?;
    let (certificate, key) = (dir.join("tls.crt"), dir.join("tls.key"));
    std::fs::write(&certificate, credential.certificate_pem)?;
    std::fs::write(&key, credential.key_pem)?;
    Ok([format!("--cert={}", certificate.display()), format!("--key={}", key.display())])
}

fn reads(cluster: &Cluster) -> Result<()> {
    for (name, colour) in [("one", "red"), ("two", "blue"), ("three", "blue")] {
        cluster.kubectl(["run", name, "--image=busybox:1", &format!("--labels=colour={colour}")])?;
    }
    cluster.ready(&["pods", "-l", "colour"])?;
    let get = |arguments: &[&str]| cluster.kubectl(["get"].iter().chain(arguments));
    ensure!(get(&["pods", "-l", "colour=blue", "-o", "name"])? == "pod/three\npod/two\n");
    ensure!(get(&["pods", "-l", "colour in (red,green),!other", "-o", "name"])? == "pod/one\n");
    let sorted = get(&["pods", "-l", "colour", "--sort-by={.metadata.labels.colour}", "-o", "name"])?;
    ensure!(sorted.ends_with("pod/one\n"), "blue comes before red: {sorted}");
    let selected = ["pods", "--field-selector=metadata.name=two,status.phase=Running", "-o", "name"];
    ensure!(get(&selected)? == "pod/two\n");
    let columns = ["pod", "one", "-o", "custom-columns=NAME:.metadata.name,COLOUR:.metadata.labels.colour"];
    ensure!(get(&columns)? == "NAME   COLOUR\none    red\n");
    ensure!(get(&["pods", "one", "-L", "colour", "--no-headers"])?.trim_end().ends_with("red"));
    ensure!(get(&["pods", "one", "--show-labels"])?.contains("colour=red"));
    ensure!(get(&["pods", "-A", "--chunk-size=1", "--no-headers"])?.starts_with("default "));
    ensure!(get(&["pod", "one", "-o", "go-template={{.metadata.name}}"])? == "one");
    ensure!(get(&["pod", "one", "-o", "yaml"])?.contains("\nkind: Pod\n"));
    let json: serde_json::Value = serde_json::from_str(&get(&["pod", "one", "-o", "json"])?)?;
    ensure!(json["kind"] == "Pod" && json["status"]["phase"] == "Running", "{json}");
    ensure!(get(&["pod/one", "deployment/web", "-o", "name"])? == "pod/one\ndeployment.apps/web\n");
    ensure!(get(&["--raw", "/readyz"])? == "ok");
    for (arguments, why) in [
        (["get", "pods", "none"], "pods \"none\" not found"),
        (["get", "pods", "--field-selector=bogus=1"], "\"bogus=1\": field label not supported: bogus"),
        (["get", "pods", "--selector=a=b=c"], "found '=', expected: ',' or 'end of string'"),
        (["get", "nonsense", "--ignore-not-found"], "doesn't have a resource type \"nonsense\""),
    ] {
        let said = cluster.refused(arguments)?;
        ensure!(said.contains(why), "{arguments:?}: {said}");
    }
    Ok(())
}

fn patches(cluster: &mut Cluster) -> Result<()> {
    for (kind, patch) in [
        ("merge", r#"{"metadata":{"labels":{"patched":"merge"}}}"#),
        ("strategic", r#"{"metadata":{"labels":{"patched":"strategic"}}}"#),
        ("json", r#"[{"op":"replace","path":"/metadata/labels/patched","value":"json"}]"#),
    ] {
        cluster.kubectl(["patch", "deployment", "web", "--type", kind, "-p", patch])?;
        let label = cluster.kubectl(["get", "deployment", "web", &field(".metadata.labels.patched")])?;
        ensure!(label == kind, "{label}");
    }
    let test = r#"[{"op":"test","path":"/spec/replicas","value":9}]"#;
    let said = cluster.refused(["patch", "deployment", "web", "--type=json", "-p", test])?;
    ensure!(said.contains("/spec/replicas"), "{said}");
    let status = r#"{"status":{"conditions":[{"type":"example.com/Seen","status":"True"}]}}"#;
    cluster.kubectl(["patch", "pod", "one", "--subresource=status", "-p", status])?;
    cluster.kubectl(["wait", "--for=condition=example.com/Seen", "pod/one", "--timeout=30s"])?;

    cluster.kubectl(["label", "pod", "one", "size=small"])?;
    ensure!(cluster.refused(["label", "pod", "one", "size=big"])?.contains("--overwrite is false"));
    cluster.kubectl(["label", "pod", "one", "size=big", "--overwrite"])?;
    ensure!(cluster.kubectl(["get", "pods", "-l", "size=big", "-o", "name"])? == "pod/one\n");
    cluster.kubectl(["label", "pod", "one", "size-"])?;
    ensure!(cluster.kubectl(["get", "pods", "-l", "size", "-o", "name"])?.is_empty());
    cluster.kubectl(["annotate", "pods", "--all", "note=x"])?;
    cluster.kubectl(["annotate", "pod", "one", "note-"])?;
    ensure!(cluster.kubectl(["get", "pod", "one", &field(".metadata.annotations.note")])?.is_empty());
    cluster.tell_kubectl(&[("KUBE_EDITOR", "sed -i s/red/green/")]);
    let edited = cluster.kubectl(["edit", "pod", "one"])?;
    ensure!(edited.contains("pod/one edited"), "{edited}");
    cluster.tell_kubectl(&[]);
    ensure!(cluster.kubectl(["get", "pods", "-l", "colour=green", "-o", "name"])? == "pod/one\n");
    Ok(())
}

fn applies(cluster: &Cluster) -> Result<()> {
    let map = |data: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{{data}}}\n")
    };
    let feed = |yaml: &str, arguments: &[&str]| cluster.feed(yaml.as_bytes(), arguments);
    let fed = |yaml: &str, arguments: &[&str]| {
        let output = feed(yaml, arguments)?;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    ensure!(fed(&map("a: one"), &["apply", "-f-"])?.contains("created"));
    ensure!(fed(&map("a: one"), &["apply", "-f-"])?.contains("unchanged"));
    let diff = feed(&map("a: two"), &["diff", "-f-"])?;
    let shown = String::from_utf8_lossy(&diff.stdout);
    ensure!(diff.status.code() == Some(1) && shown.contains("-  a: one\n+  a: two\n"), "{diff:?}");
    ensure!(fed(&map("b: two"), &["apply", "-f-"])?.contains("configured"));
    ensure!(cluster.kubectl(["get", "configmap", "settings", &field(".data")])? == r#"{"b":"two"}"#);
    ensure!(fed(&map("c: three"), &["replace", "-f-"])?.contains("replaced"));
    let uid = cluster.kubectl(["get", "configmap", "settings", &field(".metadata.uid")])?;
    fed(&map("c: three"), &["replace", "--force", "-f-"])?;
    ensure!(cluster.kubectl(["get", "configmap", "settings", &field(".metadata.uid")])? != uid);
    cluster.kubectl(["delete", "configmap", "settings"])?;

    let server_side = |manager: &str, data: &str, force: bool| {
        let force = format!("--force-conflicts={force}");
        feed(&map(data), &["apply", "--server-side", "--field-manager", manager, &force, "-f-"])
    };
    ensure!(server_side("painter", "colour: blue", false)?.status.success());
    ensure!(server_side("carver", "shape: round", false)?.status.success());
    let conflict = server_side("carver", "colour: red", false)?;
    let said = String::from_utf8_lossy(&conflict.stderr);
    ensure!(said.contains("conflict with \"painter\": .data.colour"), "{said}");
    ensure!(server_side("carver", "colour: red", true)?.status.success());
    let data = cluster.kubectl(["get", "configmap", "settings", &field(".data")])?;
    ensure!(data == r#"{"colour":"red"}"#, "what the carver no longer applies is gone: {data}");
    Ok(())
}

fn waits_and_watches(cluster: &Cluster) -> Result<()> {
    let mut watching = cluster.spawn_kubectl([
        "get",
        "configmaps",
        "-l",
        "seen",
        "--watch",
        "--output-watch-events",
        "--no-headers",
    ])?;
    let mut seen = BufReader::new(watching.0.stdout.take().context("kubectl's standard output")?);
    let mut sees = |expected: &str| -> Result<()> {
        let mut line = String::new();
        seen.read_line(&mut line)?;
        ensure!(line.starts_with(expected) && line.contains("late"), "{expected}: {line:?}");
        Ok(())
    };
    let waiting = cluster.spawn_kubectl(["wait", "--for=create", "configmap/late", "--timeout=60s"])?;
    cluster.kubectl(["create", "configmap", "late"])?;
    cluster.kubectl(["label", "configmap", "late", "seen=yes"])?;
    ended_well(waiting)?;
    sees("ADDED")?;
    let waiting = cluster.spawn_kubectl(["wait", "--for=delete", "configmap/late", "--timeout=60s"])?;
    cluster.kubectl(["delete", "configmap", "late"])?;
    ended_well(waiting)?;
    sees("DELETED")?;
    cluster.kubectl(["wait", "--for=jsonpath={.status.phase}=Running", "pod/one", "--timeout=30s"])?;
    let said = cluster.refused(["wait", "--for=condition=Never", "pod/one", "--timeout=1s"])?;
    ensure!(said.contains("timed out waiting for the condition on pods/one"), "{said}");
    Ok(())
}

fn ended_well(mut running: tiphys_testkit::Running) -> Result<()> {
    ensure!(running.0.wait()?.success(), "kubectl waited for nothing");
    Ok(())
}

fn deletes(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(["create", "configmap", "held"])?;
    let finalizers = |list: &str| format!(r#"{{"metadata":{{"finalizers":{list}}}}}"#);
    cluster.kubectl(["patch", "configmap", "held", "-p", &finalizers(r#"["example.com/hold"]"#)])?;
    cluster.kubectl(["delete", "configmap", "held", "--wait=false"])?;
    ensure!(
        !cluster.kubectl(["get", "configmap", "held", &field(".metadata.deletionTimestamp")])?.is_empty()
    );
    let freed = cluster.kubectl(["patch", "configmap", "held", "--type=merge", "-p", &finalizers("null")])?;
    ensure!(freed == "configmap/held patched\n", "{freed}");
    ensure!(cluster.refused(["get", "configmap", "held"])?.contains("NotFound"));

    cluster.kubectl(["delete", "pod", "one", "--grace-period=1"])?;
    cluster.kubectl(["delete", "pod", "two", "--now"])?;
    cluster.kubectl(["delete", "pod", "three", "--force"])?;
    ensure!(cluster.refused(["delete", "pod", "three"])?.contains("pods \"three\" not found"));
    cluster.kubectl(["delete", "pod", "three", "--ignore-not-found"])?;
    ensure!(cluster.kubectl(["delete", "services", "-l", "app in (inside,outside)"])?.lines().count() == 2);
    cluster.kubectl(["delete", "secrets", "--all"])?;
    ensure!(cluster.kubectl(["get", "secrets", "-o", "name"])?.is_empty());
    cluster.kubectl(["delete", "namespace", "elsewhere", "--timeout=60s"])?;
    Ok(())
}

/// What kubectl asks about the server.
fn questions(cluster: &Cluster) -> Result<()> {
    for (arguments, answer) in [
        (&["version"][..], "Server Version: v1.37"),
        (&["cluster-info"], "is running at"),
        (&["api-versions"], "apps/v1\n"),
        (&["api-resources", "--namespaced=false", "-o", "name"], "\nnodes\n"),
        (&["explain", "pod.spec.containers.image"], "image <string>"),
        (&["explain", "deployment.spec.strategy", "--recursive"], "maxSurge\t<IntOrString>"),
        (&["explain", "--api-version=apps/v1", "deployments"], "VERSION:    v1"),
        (&["auth", "can-i", "create", "pods"], "yes"),
        (&["auth", "can-i", "--list"], "*.*"),
        (&["auth", "can-i", "list", "pods", "--as=system:serviceaccount:default:robot"], "yes"),
        (&["auth", "whoami"], "kubernetes-admin"),
        (&["events", "--for", "deployment/web"], "ScalingReplicaSet"),
        (
            &["get", "events", "--field-selector=involvedObject.name=one,reason=Scheduled"],
            "Successfully assigned",
        ),
        (&["config", "view"], "DATA+OMITTED"),
        (&["cluster-info", "dump"], "\"kind\": \"NodeList\""),
        (&["describe", "deployment", "web"], "1 desired | 1 updated | 1 total | 1 available | 0 unavailable"),
        (&["describe", "pods", "-l", "app=web"], "Controlled By:  ReplicaSet/web-"),
        (&["describe", "node"], "PodCIDR:"),
        (&["describe", "service", "kubernetes"], "TargetPort:"),
        (&["describe", "role", "reader"], "deployments.apps  []                 []              [get list]"),
    ] {
        let told = cluster.kubectl(arguments)?;
        ensure!(told.contains(answer), "{arguments:?}: {told}");
    }
    let no = cluster.try_kubectl([
        "auth",
        "can-i",
        "delete",
        "pods",
        "--as=system:serviceaccount:default:robot",
    ])?;
    ensure!(no.stdout == b"no\n", "{no:?}");
    Ok(())
}

fn nodes(cluster: &Cluster) -> Result<()> {
    let node = "scenario";
    cluster.kubectl(["taint", "nodes", node, "colour=red:NoSchedule"])?;
    ensure!(
        cluster.refused(["taint", "nodes", node, "colour=red:NoSchedule"])?.contains("--overwrite is false")
    );
    cluster.kubectl(["taint", "nodes", node, "colour-"])?;
    cluster.kubectl(["rollout", "status", "deployment/web", "--timeout=120s"])?;
    cluster.kubectl(["run", "alone", "--image=busybox:1"])?;
    cluster.ready(&["pod/alone"])?;
    let said = cluster.refused(["drain", node])?;
    ensure!(said.contains("cannot delete Pods that declare no controller"), "{said}");
    let drained = cluster.kubectl(["drain", node, "--force", "--grace-period=1", "--timeout=60s"])?;
    ensure!(
        drained.contains("pod/alone evicted") && drained.contains(&format!("node/{node} drained")),
        "{drained}"
    );
    let ready = cluster.kubectl(["get", "nodes"])?;
    ensure!(ready.contains("Ready,SchedulingDisabled"), "{ready}");
    cluster.eventually("it is told why the pod waits", || {
        let reason = field(".items[*].status.conditions[?(@.type==\"PodScheduled\")].message");
        Ok(cluster
            .kubectl(["get", "pods", "-l", "app=web", &reason])?
            .contains("1 node(s) were unschedulable"))
    })?;
    cluster.kubectl(["uncordon", node])?;
    cluster.kubectl(["rollout", "status", "deployment/web", "--timeout=120s"])?;
    let name = cluster.kubectl(["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/healthz")])?;
    ensure!(name == "ok", "{name}");
    Ok(())
}

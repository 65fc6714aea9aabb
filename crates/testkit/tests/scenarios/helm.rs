//! Helm 4 and a chart of our own, from the first install to the last trace of it.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tiphys_testkit::{Cluster, image::Image, program};

use crate::field;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/helm/greeter");

/// Runs Helm as the administrator and returns whatever came of it.
fn try_helm(cluster: &Cluster, arguments: &[&str]) -> Result<Output> {
    let mut helm = Command::new(program("HELM")?);
    helm.args(arguments).env("KUBECONFIG", cluster.kubeconfig()).env("HOME", cluster.dir());
    helm.output().context("starting helm")
}

/// Runs Helm, which must succeed, and returns what it prints.
fn helm(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let output = try_helm(cluster, arguments)?;
    ensure!(output.status.success(), "helm {arguments:?}: {output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs Helm, which must fail, and returns what it says on standard error.
fn refused(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let output = try_helm(cluster, arguments)?;
    ensure!(!output.status.success(), "helm {arguments:?} should have failed: {output:?}");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The chart's own test: a pod asks the release by its name, and is told this.
fn greets(cluster: &Cluster, greeting: &str) -> Result<()> {
    let said = helm(cluster, &["test", "web", "--logs"])?;
    ensure!(said.contains("Phase:          Succeeded"), "{said}");
    ensure!(said.contains(&format!("{greeting} from default")), "{said}");
    Ok(())
}

/// What the history says of each revision: how it stands, and why.
fn history(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let told: Value = serde_json::from_str(&helm(cluster, &["history", "web", "-o", "json"])?)?;
    let text = |of: &Value, name| of[name].as_str().unwrap_or_default().to_owned();
    let rows = told.as_array().context("a list of revisions")?;
    Ok(rows.iter().map(|row| (text(row, "status"), text(row, "description"))).collect())
}

#[test]
fn helm_does_real_work() -> Result<()> {
    let cluster = Cluster::start(88)?;
    cluster.import(&Image::busybox(&["web:1"], &["sh"]))?;
    installs(&cluster)?;
    upgrades(&cluster)?;
    contends(&cluster)?;
    goes_back(&cluster)?;
    uninstalls(&cluster)
}

fn installs(cluster: &Cluster) -> Result<()> {
    let installed = try_helm(cluster, &["install", "web", CHART, "--wait"])?;
    ensure!(installed.status.success(), "{installed:?}");
    let (out, err) = (String::from_utf8_lossy(&installed.stdout), String::from_utf8_lossy(&installed.stderr));
    ensure!(
        out.contains("STATUS: deployed") && out.contains("hello at revision 1, on Kubernetes v1.37"),
        "{out}"
    );
    ensure!(err.contains("policy/v1beta1 PodDisruptionBudget is deprecated in v1.21+"), "{err}");

    // It has waited for the pods, and its hooks have run and are gone.
    let get = |what: &str, path: &str| cluster.kubectl(["get", what, "web", &field(path)]);
    ensure!(get("deployment", ".status.readyReplicas")? == "2");
    ensure!(get("visitor", ".spec.name")? == "HELLO");
    ensure!(get("pdb", ".apiVersion")? == "policy/v1");
    let status: Value = serde_json::from_str(&helm(cluster, &["status", "web", "-o", "json"])?)?;
    let hooks = status["hooks"].as_array().context("a list of hooks")?;
    for name in ["web-before", "web-after"] {
        let hook = hooks.iter().find(|hook| hook["name"] == name).context(name)?;
        ensure!(hook["last_run"]["phase"] == "Succeeded", "{hook}");
    }
    ensure!(cluster.kubectl(["get", "jobs", "-o", "name"])?.is_empty());
    greets(cluster, "hello")?;

    let list: Value = serde_json::from_str(&helm(cluster, &["list", "-o", "json"])?)?;
    let release = &list[0];
    ensure!(release["name"] == "web" && release["chart"] == "greeter-1.0.0", "{list}");
    ensure!(release["status"] == "deployed" && release["revision"] == "1", "{list}");

    // What Helm says it has written is what there is.
    let manifest = helm(cluster, &["get", "manifest", "web"])?;
    ensure!(manifest.contains("apiVersion: policy/v1beta1"), "{manifest}");
    let difference = cluster.feed(manifest.as_bytes(), ["diff", "-f", "-"])?;
    ensure!(difference.status.success() && difference.stdout.is_empty(), "{difference:?}");
    Ok(())
}

fn upgrades(cluster: &Cluster) -> Result<()> {
    let key = || cluster.kubectl(["get", "secret", "web", &field(".data.key")]);
    let made = key()?;
    // In the version that upstream has removed, one field goes and another comes.
    let values = "--set=greeting=moin,disruptions.minAvailable=null,disruptions.maxUnavailable=1";
    let said = helm(cluster, &["upgrade", "web", CHART, values, "--wait"])?;
    ensure!(said.contains("moin at revision 2"), "{said}");
    greets(cluster, "moin")?;
    ensure!(key()? == made, "the chart looks the key up, and keeps it");
    let budget = ["get", "pdb", "web", &field(".spec")];
    let budget = cluster.kubectl(budget)?;
    ensure!(budget.starts_with(r#"{"maxUnavailable":1,"selector":"#), "{budget}");
    let values = helm(cluster, &["get", "values", "web"])?;
    ensure!(values.contains("greeting: moin"), "{values}");

    // What the definition that came with the chart does not allow.
    let long = "--set=greeting=a greeting that goes on and on";
    let said = refused(cluster, &["upgrade", "web", CHART, long, "--wait"])?;
    ensure!(said.contains(r#"Visitor.greeter.example.com "web" is invalid: spec.name: Too long"#), "{said}");
    helm(cluster, &["rollback", "web", "2", "--wait"])?;
    // What never gets ready is taken back, to what has run beside it. (Until pods of an older ReplicaSet run, upstream's
    // controller, like ours, leaves the condition by which Helm would give up.)
    let hasty = ["--set=image=web:absent", "--set=patience=1", "--rollback-on-failure"];
    let said = refused(cluster, &[&["upgrade", "web", CHART][..], &hasty].concat())?;
    ensure!(said.contains("Progress deadline exceeded") && said.contains("has been rolled back"), "{said}");
    greets(cluster, "moin")
}

/// Somebody else applies a field that is Helm's.
fn contends(cluster: &Cluster) -> Result<()> {
    let scale = br#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 3}}"#;
    let apply = ["apply", "--server-side", "--field-manager=autoscaler", "-f", "-", "--force-conflicts"];
    let refused_once = cluster.feed(scale, &apply[..5])?;
    let said = String::from_utf8_lossy(&refused_once.stderr);
    ensure!(said.contains(r#"conflict with "helm": .spec.replicas"#), "{refused_once:?}");
    let taken = cluster.feed(scale, apply)?;
    ensure!(taken.status.success(), "{taken:?}");

    let upgrade =
        ["upgrade", "web", CHART, "--reuse-values", "--set=replicas=1", "--wait", "--force-conflicts"];
    let said = refused(cluster, &upgrade[..6])?;
    ensure!(
        said.contains(r#"Apply failed with 1 conflict: conflict with "autoscaler": .spec.replicas"#),
        "{said}"
    );
    let get =
        |path: &str| cluster.kubectl(["get", "deployment", "web", "--show-managed-fields", &field(path)]);
    ensure!(get(".spec.replicas")? == "3");
    helm(cluster, &upgrade)?;
    ensure!(get(".spec.replicas")? == "1");
    let managers = get(".metadata.managedFields[?(@.operation==\"Apply\")].manager")?;
    ensure!(managers == "helm", "{managers}");
    Ok(())
}

fn goes_back(cluster: &Cluster) -> Result<()> {
    let said = helm(cluster, &["rollback", "web", "1", "--wait"])?;
    ensure!(said.contains("Rollback was a success"), "{said}");
    greets(cluster, "hello")?;
    ensure!(cluster.kubectl(["get", "deployment", "web", &field(".status.readyReplicas")])? == "2");
    let told = history(cluster)?;
    let expected = [
        ("superseded", "Install complete"),
        ("superseded", "Upgrade complete"),
        ("failed", "Too long"),
        ("superseded", "Rollback to 2"),
        ("failed", "Progress deadline exceeded"),
        ("superseded", "Rollback to 4"),
        ("failed", "conflict with \"autoscaler\""),
        ("superseded", "Upgrade complete"),
        ("deployed", "Rollback to 1"),
    ];
    let is_so = |((status, why), (expected, part)): (&(String, String), &(&str, &str))| {
        status == expected && why.contains(part)
    };
    ensure!(told.len() == expected.len() && told.iter().zip(&expected).all(is_so), "{told:?}");
    Ok(())
}

fn uninstalls(cluster: &Cluster) -> Result<()> {
    let said = helm(cluster, &["uninstall", "web", "--wait"])?;
    ensure!(said.contains("release \"web\" uninstalled"), "{said}");
    ensure!(helm(cluster, &["list", "-o", "json"])?.trim() == "[]");
    // Helm waits for what it knows of; pods are their ReplicaSets'.
    let kinds = "all,configmaps,secrets,pdb,visitors";
    cluster.eventually("nothing is left but what every namespace has", || {
        let left = cluster.kubectl(["get", kinds, "-o", "name"])?;
        Ok(left.lines().eq(["service/kubernetes", "configmap/kube-root-ca.crt"]))
    })?;
    cluster.kubectl(["get", "crd", "visitors.greeter.example.com"])?;
    Ok(())
}

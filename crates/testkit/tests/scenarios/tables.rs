//! The columns that upstream prints.

use anyhow::{Result, ensure};
use tiphys_testkit::{Cluster, image::Image};

/// What `kubectl get` prints above its rows, without and with `-o wide`.
const HEADS: [(&str, &str, &str); 16] = [
    ("pods", "NAME READY STATUS RESTARTS AGE", "IP NODE NOMINATED NODE READINESS GATES"),
    ("deployments", "NAME READY UP-TO-DATE AVAILABLE AGE", "CONTAINERS IMAGES SELECTOR"),
    ("replicasets", "NAME DESIRED CURRENT READY AGE", "CONTAINERS IMAGES SELECTOR"),
    ("jobs", "NAME STATUS COMPLETIONS DURATION AGE", "CONTAINERS IMAGES SELECTOR"),
    ("services", "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE", "SELECTOR"),
    ("endpointslices", "NAME ADDRESSTYPE PORTS ENDPOINTS AGE", ""),
    ("configmaps", "NAME DATA AGE", ""),
    ("secrets", "NAME TYPE DATA AGE", ""),
    ("serviceaccounts", "NAME AGE", ""),
    ("events", "LAST SEEN TYPE REASON OBJECT MESSAGE", ""),
    ("namespaces", "NAME STATUS AGE", ""),
    ("priorityclasses", "NAME VALUE GLOBAL-DEFAULT AGE PREEMPTIONPOLICY", ""),
    ("roles", "NAME CREATED AT", ""),
    ("rolebindings", "NAME ROLE AGE", "USERS GROUPS SERVICEACCOUNTS"),
    ("clusterroles", "NAME CREATED AT", ""),
    ("clusterrolebindings", "NAME ROLE AGE", "USERS GROUPS SERVICEACCOUNTS"),
];

#[test]
fn tables_have_upstreams_columns() -> Result<()> {
    let cluster = Cluster::start(74)?;
    cluster.import(&Image::busybox(&["busybox:1"], &["sleep", "3600"]))?;
    for arguments in [
        &["deployment", "web", "--image=busybox:1"][..],
        &["job", "once", "--image=busybox:1", "--", "true"],
        &["secret", "generic", "hidden"],
        &["role", "reader", "--verb=get", "--resource=pods"],
        &["rolebinding", "reads", "--role=reader", "--user=bob"],
    ] {
        cluster.kubectl(["create"].iter().chain(arguments))?;
    }
    cluster.kubectl(["rollout", "status", "deployment/web", "--timeout=120s"])?;
    let head = |arguments: &[&str]| -> Result<String> {
        let table = cluster.kubectl(["get"].iter().chain(arguments))?;
        let head = table.lines().next().unwrap_or_default();
        Ok(head.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    for (kind, narrow, more) in HEADS {
        ensure!(head(&[kind])? == narrow, "{kind}: {}", head(&[kind])?);
        let wide = head(&[kind, "-o", "wide"])?;
        // Only events put their wide columns between the others.
        let expected = match kind {
            "events" => {
                "LAST SEEN TYPE REASON OBJECT SUBOBJECT SOURCE MESSAGE FIRST SEEN COUNT NAME".to_owned()
            }
            _ => format!("{narrow} {more}").trim_end().to_owned(),
        };
        ensure!(wide == expected, "{kind}: {wide}");
    }
    let node = head(&["nodes", "-o", "wide"])?;
    let expected =
        "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME";
    ensure!(node == expected, "{node}");
    let row = cluster.kubectl(["get", "deployment", "web", "--no-headers", "-o", "wide"])?;
    let cells: Vec<_> = row.split_whitespace().collect();
    ensure!(
        cells[..4] == ["web", "1/1", "1", "1"] && cells[5..] == ["busybox", "busybox:1", "app=web"],
        "{row}"
    );
    Ok(())
}

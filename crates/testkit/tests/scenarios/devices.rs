//! Claims to devices, and Secrets that hold tokens, in the hands of kubectl.

use anyhow::{Result, ensure};
use tiphys_testkit::Cluster;

use crate::field;

/// No driver is there to hand the devices out: what the scheduler gives away is told all the same.
#[test]
fn claims_get_devices_and_leave_them_to_others() -> Result<()> {
    let cluster = Cluster::start(87)?;
    cluster.apply(DEVICES)?;
    let given = |pod: &str| {
        let claim = cluster.kubectl([
            "get",
            "pod",
            pod,
            &field(".status.resourceClaimStatuses[0].resourceClaimName"),
        ])?;
        if claim.is_empty() {
            return Ok(String::new());
        }
        cluster.kubectl([
            "get",
            "resourceclaim",
            &claim,
            &field(".status.allocation.devices.results[0].device"),
        ])
    };
    cluster.apply(&pod("first"))?;
    cluster.eventually("the first pod has the large device", || Ok(given("first")? == "large"))?;
    cluster.apply(&pod("second"))?;
    cluster.eventually("the second waits for it", || {
        let told = cluster.kubectl(["describe", "pod", "second"])?;
        Ok(told.contains("0/1 nodes are available: 1 cannot allocate all claims."))
    })?;
    ensure!(cluster.kubectl(["get", "pod", "second", &field(".spec.nodeName")])?.is_empty());
    let why = cluster.kubectl(["get", "pod", "second", "--subresource=why"])?;
    ensure!(
        why.contains("DynamicResources") && why.contains("scenario: cannot allocate all claims"),
        "{why}"
    );
    cluster.kubectl(["delete", "pod", "first", "--grace-period=1"])?;
    cluster.eventually("the second has it now", || Ok(given("second")? == "large"))?;

    // Who taints the device drives the pod away.
    cluster.apply(
        "
apiVersion: resource.k8s.io/v1
kind: DeviceTaintRule
metadata: {name: broken}
spec:
  deviceSelector: {driver: gpu.example.com, device: large}
  taint: {key: broken, effect: NoExecute}
",
    )?;
    cluster.kubectl(["wait", "--for=delete", "pod/second", "--timeout=60s"])?;
    Ok(())
}

fn pod(name: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: c, image: 'none:1', resources: {{claims: [{{name: gpu}}]}}}}
  resourceClaims:
  - {{name: gpu, resourceClaimTemplateName: large}}
"
    )
}

const DEVICES: &str = "
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: gpu}
spec:
  selectors:
  - cel: {expression: 'device.driver == \"gpu.example.com\"'}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: gpus}
spec:
  driver: gpu.example.com
  nodeName: scenario
  pool: {name: scenario, generation: 1, resourceSliceCount: 1}
  devices:
  - {name: small, capacity: {memory: {value: 10Gi}}}
  - {name: large, capacity: {memory: {value: 80Gi}}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: large}
spec:
  spec:
    devices:
      requests:
      - name: r
        exactly:
          deviceClassName: gpu
          selectors:
          - cel: {expression: 'device.capacity[\"gpu.example.com\"].memory.isGreaterThan(quantity(\"40Gi\"))'}
";

#[test]
fn a_secret_gets_the_token_of_its_account() -> Result<()> {
    let cluster = Cluster::start(86)?;
    cluster.apply(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot}
---
apiVersion: v1
kind: Secret
metadata: {name: robot, annotations: {kubernetes.io/service-account.name: robot}}
type: kubernetes.io/service-account-token
",
    )?;
    let of = |key: &str| {
        cluster.kubectl([
            "get",
            "secret",
            "robot",
            &format!("-o=go-template={{{{.data.{key} | base64decode}}}}"),
        ])
    };
    cluster.eventually("the Secret has a token", || Ok(of("token")?.starts_with("ey")))?;
    ensure!(of("namespace")? == "default");
    let who = cluster
        .try_kubectl_with_token(&of("token")?, ["auth", "whoami", &field(".status.userInfo.username")])?;
    ensure!(who.stdout == b"system:serviceaccount:default:robot", "{who:?}");
    cluster.kubectl(["delete", "serviceaccount", "robot"])?;
    cluster.kubectl(["wait", "--for=delete", "secret/robot", "--timeout=60s"])?;
    Ok(())
}

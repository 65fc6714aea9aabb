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

    shares_are_given_until_the_device_is_full(&cluster)?;
    resources_of_a_class_are_claimed(&cluster)?;
    devices_are_made_ready_first(&cluster)?;

    // Who wants what others have needs a namespace for it.
    let admin = "
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: admin}
spec: {devices: {requests: [{name: r, exactly: {deviceClassName: gpu, adminAccess: true}}]}}
";
    let refused = cluster.apply(admin).expect_err("no label").to_string();
    ensure!(refused.contains("requires the `resource.kubernetes.io/admin-access: true` label"), "{refused}");
    cluster.kubectl(["label", "namespace", "default", "resource.kubernetes.io/admin-access=true"])?;
    cluster.apply(admin).map(drop)
}

/// Two pods have half of a device each, and a third one none.
fn shares_are_given_until_the_device_is_full(cluster: &Cluster) -> Result<()> {
    cluster.apply(SHARED)?;
    let share = |pod: &str| {
        let claim = field(".status.resourceClaimStatuses[0].resourceClaimName");
        let claim = cluster.kubectl(["get", "pod", pod, &claim])?;
        if claim.is_empty() {
            return Ok(String::new());
        }
        let consumed = field(".status.allocation.devices.results[0].consumedCapacity.bandwidth");
        cluster.kubectl(["get", "resourceclaim", &claim, &consumed])
    };
    for name in ["half-a", "half-b"] {
        cluster.apply(&of_template(name, "half"))?;
        cluster.eventually("the pod has half of the device", || Ok(share(name)? == "5"))?;
    }
    cluster.apply(&of_template("half-c", "half"))?;
    cluster.eventually("the third has none", || {
        Ok(cluster.kubectl(["describe", "pod", "half-c"])?.contains("1 cannot allocate all claims"))
    })?;
    cluster.kubectl(["delete", "pod", "half-a", "--grace-period=1"])?;
    cluster.eventually("the third has what the first one had", || Ok(share("half-c")? == "5"))
}

/// A pod that asks for a resource gets a claim for it, which goes with the pod.
fn resources_of_a_class_are_claimed(cluster: &Cluster) -> Result<()> {
    cluster.apply(FPGA)?;
    let claim = field(".status.extendedResourceClaimStatus.resourceClaimName");
    cluster.eventually("the pod has a claim", || {
        Ok(!cluster.kubectl(["get", "pod", "extended", &claim])?.is_empty())
    })?;
    let claim = cluster.kubectl(["get", "pod", "extended", &claim])?;
    ensure!(claim.starts_with("extended-extended-resources-"), "{claim}");
    let device = field(".status.allocation.devices.results[0].device");
    ensure!(cluster.kubectl(["get", "resourceclaim", &claim, &device])? == "fpga-0");
    let mapping = field(".status.extendedResourceClaimStatus.requestMappings[0].resourceName");
    ensure!(cluster.kubectl(["get", "pod", "extended", &mapping])? == "example.com/fpga");
    cluster.kubectl(["delete", "pod", "extended", "--grace-period=1"])?;
    cluster.kubectl(["wait", "--for=delete", &format!("resourceclaim/{claim}"), "--timeout=60s"])?;
    Ok(())
}

/// A pod is bound once somebody has said that its device is there.
fn devices_are_made_ready_first(cluster: &Cluster) -> Result<()> {
    cluster.apply(REMOTE)?;
    let node = field(".status.allocation.nodeSelector.nodeSelectorTerms[0].matchFields[0].values[0]");
    cluster.eventually("the claim says for which node the device is", || {
        Ok(cluster.kubectl(["get", "resourceclaim", "remote", &node])? == "scenario")
    })?;
    cluster.eventually("the pod says that it waits", || {
        Ok(cluster.kubectl(["describe", "pod", "remote"])?.contains("BindingConditionsPending"))
    })?;
    ensure!(cluster.kubectl(["get", "pod", "remote", &field(".spec.nodeName")])?.is_empty());
    let told = r#"{"status": {"devices": [{"driver": "remote.example.com", "pool": "remote", "device": "r0", "conditions":
        [{"type": "Attached", "status": "True", "reason": "Done", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}]}}"#;
    cluster.kubectl([
        "patch",
        "resourceclaim",
        "remote",
        "--subresource=status",
        "--type=merge",
        "-p",
        told,
    ])?;
    cluster.eventually("the pod is bound", || {
        Ok(cluster.kubectl(["get", "pod", "remote", &field(".spec.nodeName")])? == "scenario")
    })
}

fn pod(name: &str) -> String {
    of_template(name, "large")
}

fn of_template(name: &str, template: &str) -> String {
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
  - {{name: gpu, resourceClaimTemplateName: {template}}}
"
    )
}

const SHARED: &str = "
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: nic}
spec:
  selectors:
  - cel: {expression: 'device.driver == \"nic.example.com\" && device.allowMultipleAllocations'}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: nics}
spec:
  driver: nic.example.com
  nodeName: scenario
  pool: {name: scenario, generation: 1, resourceSliceCount: 1}
  devices:
  - name: nic-0
    allowMultipleAllocations: true
    capacity:
      bandwidth: {value: '10', requestPolicy: {default: '1', validRange: {min: '1', step: '4'}}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: half}
spec:
  spec:
    devices:
      requests:
      - {name: r, exactly: {deviceClassName: nic, capacity: {requests: {bandwidth: '2'}}}}
";

const FPGA: &str = "
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: fpga}
spec:
  extendedResourceName: example.com/fpga
  selectors:
  - cel: {expression: 'device.driver == \"fpga.example.com\"'}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: fpgas}
spec:
  driver: fpga.example.com
  nodeName: scenario
  pool: {name: scenario, generation: 1, resourceSliceCount: 1}
  devices: [{name: fpga-0}]
---
apiVersion: v1
kind: Pod
metadata: {name: extended}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'none:1', resources: {limits: {example.com/fpga: 1}}}
";

const REMOTE: &str = "
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: remote}
spec:
  selectors:
  - cel: {expression: 'device.driver == \"remote.example.com\"'}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: remotes}
spec:
  driver: remote.example.com
  allNodes: true
  pool: {name: remote, generation: 1, resourceSliceCount: 1}
  devices:
  - {name: r0, bindsToNode: true, bindingConditions: [Attached], bindingFailureConditions: [Broken]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: remote}
spec: {devices: {requests: [{name: r, exactly: {deviceClassName: remote}}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: remote}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'none:1', resources: {claims: [{name: r}]}}
  resourceClaims:
  - {name: r, resourceClaimName: remote}
";

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

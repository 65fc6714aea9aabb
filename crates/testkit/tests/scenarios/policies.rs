//! Admission policies in the hands of kubectl.

use anyhow::{Result, ensure};
use tiphys_testkit::Cluster;

use crate::field;

const POLICIES: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: team}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: "Object{metadata: Object.metadata{labels: {'team': namespaceObject.metadata.name}}}"
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: team}
spec: {policyName: team}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: few}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}
  variables:
  - {name: replicas, expression: "object.spec.?replicas.orValue(1)"}
  validations:
  - {expression: "variables.replicas <= 2", messageExpression: "'at most 2, not ' + string(variables.replicas)"}
  - {expression: "!has(object.spec.nope)"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: few}
spec: {policyName: few, validationActions: [Deny]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: names}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}
  validations:
  - {expression: "object.metadata.name.startsWith('team-')"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: names}
spec: {policyName: names, validationActions: [Warn]}
"#;

#[test]
fn policies_refuse_warn_and_mutate() -> Result<()> {
    let cluster = Cluster::start(83)?;
    cluster.apply(POLICIES)?;
    // The controller has judged the types by then, and the server known the policy for long.
    cluster.eventually("the mistake is told", || {
        let told = field(".status.typeChecking.expressionWarnings[*].fieldRef");
        Ok(cluster.kubectl(["get", "validatingadmissionpolicy", "few", &told])?
            == "spec.validations[1].expression")
    })?;
    let said = cluster.refused(["create", "deployment", "big", "--image=busybox:1", "--replicas=3"])?;
    let wanted = "ValidatingAdmissionPolicy 'few' with binding 'few' denied request: at most 2, not 3";
    ensure!(said.contains(wanted), "{said}");
    let made = cluster.try_kubectl(["create", "deployment", "web", "--image=busybox:1"])?;
    let said = String::from_utf8_lossy(&made.stderr);
    let wanted = "Warning: Validation failed for ValidatingAdmissionPolicy 'names' with binding 'names': failed \
                  expression: object.metadata.name.startsWith('team-')";
    ensure!(made.status.success() && said.contains(wanted), "{said}");
    ensure!(cluster.kubectl(["get", "deployment", "web", &field(".metadata.labels.team")])? == "default");
    Ok(())
}

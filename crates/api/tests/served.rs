//! Which resources upstream's 1.37 serves as stable and beta, as its discovery tells.

use std::fmt::Write as _;

use tiphys_api::kind::{Kind, Kinds, Verbs};

/// A line a resource: group, plural, kind (after `/` where it is in a namespace), versions, short names,
/// categories, verbs, subresources. `-` is nothing. Verbs are `*` for all or their first letters, `x` for
/// `deletecollection`; a subresource without a word of its own has `gpu` and speaks the kind itself.
const SERVED: &str = "\
core bindings /Binding v1 - - c -
core componentstatuses ComponentStatus v1 cs - gl -
core configmaps /ConfigMap v1 cm - * -
core endpoints /Endpoints v1 ep - * -
core events /Event v1 ev - * -
core limitranges /LimitRange v1 limits - * -
core namespaces Namespace v1 ns - cdglpuw finalize:u,status
core nodes Node v1 no - * proxy:cdgpu:NodeProxyOptions,status
core persistentvolumeclaims /PersistentVolumeClaim v1 pvc - * status
core persistentvolumes PersistentVolume v1 pv - * status
core pods /Pod v1 po all * attach:cg:PodAttachOptions,binding:c:v1.Binding,ephemeralcontainers,eviction:c:policy/v1.Eviction,exec:cg:PodExecOptions,log:g:Pod,portforward:cg:PodPortForwardOptions,proxy:cdgpu:PodProxyOptions,resize,status
core podtemplates /PodTemplate v1 - - * -
core replicationcontrollers /ReplicationController v1 rc all * scale:gpu:autoscaling/v1.Scale,status
core resourcequotas /ResourceQuota v1 quota - * status
core secrets /Secret v1 - - * -
core serviceaccounts /ServiceAccount v1 sa - * token:c:authentication.k8s.io/v1.TokenRequest
core services /Service v1 svc all * proxy:cdgpu:ServiceProxyOptions,status
apiregistration.k8s.io apiservices APIService v1 - api-extensions * status
apps controllerrevisions /ControllerRevision v1 - - * -
apps daemonsets /DaemonSet v1 ds all * status
apps deployments /Deployment v1 deploy all * scale:gpu:autoscaling/v1.Scale,status
apps replicasets /ReplicaSet v1 rs all * scale:gpu:autoscaling/v1.Scale,status
apps statefulsets /StatefulSet v1 sts all * scale:gpu:autoscaling/v1.Scale,status
events.k8s.io events /Event v1 ev - * -
authentication.k8s.io selfsubjectreviews SelfSubjectReview v1 - - c -
authentication.k8s.io tokenreviews TokenReview v1 - - c -
authorization.k8s.io localsubjectaccessreviews /LocalSubjectAccessReview v1 - - c -
authorization.k8s.io selfsubjectaccessreviews SelfSubjectAccessReview v1 - - c -
authorization.k8s.io selfsubjectrulesreviews SelfSubjectRulesReview v1 - - c -
authorization.k8s.io subjectaccessreviews SubjectAccessReview v1 - - c -
autoscaling horizontalpodautoscalers /HorizontalPodAutoscaler v2,v1 hpa all * status
batch cronjobs /CronJob v1 cj all * status
batch jobs /Job v1 - all * status
certificates.k8s.io certificatesigningrequests CertificateSigningRequest v1 csr - * approval,status
certificates.k8s.io clustertrustbundles ClusterTrustBundle v1,v1beta1 - - * -
certificates.k8s.io podcertificaterequests /PodCertificateRequest v1,v1beta1 - - * status
networking.k8s.io ingressclasses IngressClass v1 - - * -
networking.k8s.io ingresses /Ingress v1 ing - * status
networking.k8s.io ipaddresses IPAddress v1 ip - * -
networking.k8s.io networkpolicies /NetworkPolicy v1 netpol - * -
networking.k8s.io servicecidrs ServiceCIDR v1 - - * status
policy poddisruptionbudgets /PodDisruptionBudget v1 pdb - * status
rbac.authorization.k8s.io clusterrolebindings ClusterRoleBinding v1 - - * -
rbac.authorization.k8s.io clusterroles ClusterRole v1 - - * -
rbac.authorization.k8s.io rolebindings /RoleBinding v1 - - * -
rbac.authorization.k8s.io roles /Role v1 - - * -
storage.k8s.io csidrivers CSIDriver v1 - - * -
storage.k8s.io csinodes CSINode v1 - - * -
storage.k8s.io csistoragecapacities /CSIStorageCapacity v1 - - * -
storage.k8s.io storageclasses StorageClass v1 sc - * -
storage.k8s.io volumeattachments VolumeAttachment v1 - - * status
storage.k8s.io volumeattributesclasses VolumeAttributesClass v1 vac - * -
admissionregistration.k8s.io mutatingadmissionpolicies MutatingAdmissionPolicy v1,v1beta1 - api-extensions * -
admissionregistration.k8s.io mutatingadmissionpolicybindings MutatingAdmissionPolicyBinding v1,v1beta1 - api-extensions * -
admissionregistration.k8s.io mutatingwebhookconfigurations MutatingWebhookConfiguration v1 - api-extensions * -
admissionregistration.k8s.io validatingadmissionpolicies ValidatingAdmissionPolicy v1 - api-extensions * status
admissionregistration.k8s.io validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding v1 - api-extensions * -
admissionregistration.k8s.io validatingwebhookconfigurations ValidatingWebhookConfiguration v1 - api-extensions * -
apiextensions.k8s.io customresourcedefinitions CustomResourceDefinition v1 crd,crds api-extensions * status
scheduling.k8s.io podgroups /PodGroup v1beta1 - - * status
scheduling.k8s.io priorityclasses PriorityClass v1 pc - * -
scheduling.k8s.io workloads /Workload v1beta1 - - * -
coordination.k8s.io leasecandidates /LeaseCandidate v1beta1 - - * -
coordination.k8s.io leases /Lease v1 - - * -
node.k8s.io runtimeclasses RuntimeClass v1 - - * -
discovery.k8s.io endpointslices /EndpointSlice v1 - - * -
resource.k8s.io deviceclasses DeviceClass v1,v1beta2,v1beta1 - - * -
resource.k8s.io devicetaintrules DeviceTaintRule v1,v1beta2 - - * status
resource.k8s.io resourceclaims /ResourceClaim v1,v1beta2,v1beta1 - - * status
resource.k8s.io resourceclaimtemplates /ResourceClaimTemplate v1,v1beta2,v1beta1 - - * -
resource.k8s.io resourceslices ResourceSlice v1,v1beta2,v1beta1 - - * -
flowcontrol.apiserver.k8s.io flowschemas FlowSchema v1 - - * status
flowcontrol.apiserver.k8s.io prioritylevelconfigurations PriorityLevelConfiguration v1 - - * status
storagemigration.k8s.io storageversionmigrations StorageVersionMigration v1,v1beta1 - - * status
";

fn letters(verbs: Verbs) -> String {
    if verbs == Verbs::ALL {
        return "*".to_owned();
    }
    let letter = |verb: &'static str| if verb == "deletecollection" { "x" } else { &verb[..1] };
    verbs.names().map(letter).collect()
}

fn joined<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let all = parts.collect::<Vec<_>>().join(",");
    if all.is_empty() { "-".to_owned() } else { all }
}

/// The row's line, with those of its versions that `wanted` names.
fn line(row: &Kind, wanted: &[&str]) -> String {
    let group = if row.group.is_empty() { "core" } else { &row.group };
    let scope = if row.is_namespaced() { "/" } else { "" };
    let mut parts: Vec<String> = row
        .subresources
        .iter()
        .map(|part| {
            let mut text = part.name.to_string();
            let verbs = letters(part.verbs);
            if verbs != "gpu" || part.speaks.is_some() {
                write!(text, ":{verbs}").unwrap();
            }
            if let Some(speaks) = &part.speaks {
                let group =
                    if speaks.group.is_empty() { String::new() } else { format!("{}/", speaks.group) };
                let version =
                    if speaks.version.is_empty() { String::new() } else { format!("{}.", speaks.version) };
                write!(text, ":{group}{version}{}", speaks.kind).unwrap();
            }
            text
        })
        .collect();
    parts.sort();
    format!(
        "{group} {} {scope}{} {} {} {} {} {}",
        row.resource,
        row.kind,
        joined(row.versions.iter().map(|v| &*v.name).filter(|v| wanted.contains(v))),
        joined(row.short_names.iter().map(|n| &**n)),
        joined(row.categories.iter().map(|n| &**n)),
        letters(row.verbs),
        joined(parts.iter().map(String::as_str)),
    )
}

#[test]
fn everything_that_upstream_serves_is_served_alike() {
    let kinds = Kinds::builtin();
    for wanted in SERVED.lines() {
        let mut words = wanted.split(' ');
        let mut next = || words.next().unwrap();
        let (group, resource, kind, versions) = (next(), next(), next(), next());
        let group = if group == "core" { "" } else { group };
        let row = kinds.group_resource(group, resource).unwrap_or_else(|| panic!("{wanted}"));
        assert_eq!(line(row, &versions.split(',').collect::<Vec<_>>()), wanted);
        let kind = kind.trim_start_matches('/');
        assert_eq!((&*row.singular, &*row.list_kind), (&*kind.to_lowercase(), &*format!("{kind}List")));
    }
}

/// What is served besides, upstream has removed, and every use of it is warned of.
#[test]
fn nothing_else_is_served_without_a_warning() {
    for row in Kinds::builtin().iter() {
        let group = if row.group.is_empty() { "core" } else { &row.group };
        let start = format!("{group} {} ", row.resource);
        let line = SERVED.lines().find(|line| line.starts_with(&start));
        let wanted = line.and_then(|line| line.split(' ').nth(3)).unwrap_or_default();
        for version in &row.versions {
            let listed = wanted.split(',').any(|v| v == version.name);
            assert!(listed || version.warning.is_some(), "{}/{} {}", row.group, version.name, row.resource);
        }
    }
}

/// The order of upstream's discovery, which kubectl follows where two groups have a resource of one name.
#[test]
fn groups_come_in_upstreams_order() {
    let mut wanted: Vec<&str> = Vec::new();
    for group in SERVED.lines().map(|line| line.split(' ').next().unwrap()) {
        if !wanted.contains(&group) {
            wanted.push(group);
        }
    }
    let kinds = Kinds::builtin();
    let groups = kinds.groups();
    let served: Vec<&str> = groups
        .iter()
        .map(|g| if g.name.is_empty() { "core" } else { g.name })
        .filter(|g| wanted.contains(g))
        .collect();
    assert_eq!(served, wanted);
}

#[test]
fn old_betas_say_what_to_use_instead() {
    let kinds = Kinds::builtin();
    let warning = |group: &str, version: &str, resource: &str| {
        let row = kinds.resource(group, version, resource).unwrap();
        row.version(version).unwrap().warning.as_deref()
    };
    assert_eq!(warning("resource.k8s.io", "v1", "resourceclaims"), None);
    assert_eq!(
        warning("resource.k8s.io", "v1beta1", "resourceclaims"),
        Some("resource.k8s.io/v1beta1 ResourceClaim is deprecated in v1.35+, unavailable in v1.38+")
    );
    assert_eq!(
        warning("certificates.k8s.io", "v1beta1", "clustertrustbundles"),
        Some(
            "certificates.k8s.io/v1beta1 ClusterTrustBundle is deprecated in v1.37+, unavailable in v1.40+; \
             use certificates.k8s.io/v1 ClusterTrustBundle"
        )
    );
}

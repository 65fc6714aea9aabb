//! Roles and bindings of people and components.

use super::{ALL, EVENTS, READ, Row, WRITE, named, on, paths};

/// Roles made of those that are labelled for them: the name, and which of these the role goes into itself.
pub(super) const AGGREGATED: &[(&str, &str)] = &[("admin", ""), ("edit", "admin"), ("view", "edit")];

const SIGNERS: &str = "certificates.k8s.io";
const CSR: &str = "certificatesigningrequests";

pub(super) const NODE: &[Row] = &[
    on("create", "authentication.k8s.io", "tokenreviews"),
    on("create", "authorization.k8s.io", "subjectaccessreviews localsubjectaccessreviews"),
    on(READ, "core", "services"),
    on("create get list watch", "core", "nodes"),
    on("patch update", "core", "nodes nodes/status"),
    on("create patch update", "core events.k8s.io", "events"),
    on(READ, "core", "pods"),
    on("create delete", "core", "pods"),
    on("patch update", "core", "pods/status"),
    on("create", "core", "pods/eviction"),
    on(READ, "core", "secrets configmaps"),
    on("get", "core", "persistentvolumeclaims persistentvolumes endpoints"),
    on("create get list watch", SIGNERS, CSR),
    on(READ, SIGNERS, "clustertrustbundles"),
    on("create get list watch", SIGNERS, "podcertificaterequests"),
    on("create delete get patch update", "coordination.k8s.io", "leases"),
    on("get", "storage.k8s.io", "volumeattachments"),
    on("create", "core", "serviceaccounts/token"),
    on("get", "core", "serviceaccounts"),
    on("get patch update", "core", "persistentvolumeclaims/status"),
    on(READ, "storage.k8s.io", "csidrivers"),
    on("create delete get patch update", "storage.k8s.io", "csinodes"),
    on(READ, "node.k8s.io", "runtimeclasses"),
    on("get", "resource.k8s.io", "resourceclaims"),
    on(ALL, "resource.k8s.io", "resourceslices"),
];

/// Name, the aggregated role that it goes into, rules.
pub(super) const TABLE: &[(&str, &str, &[Row])] = &[
    (
        "system:discovery",
        "",
        &[paths("/livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*")],
    ),
    (
        "system:monitoring",
        "",
        &[paths("/metrics /metrics/slis /livez /readyz /healthz /livez/* /readyz/* /healthz/*")],
    ),
    (
        "system:basic-user",
        "",
        &[
            on("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
            on("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    ("system:public-info-viewer", "", &[paths("/livez /readyz /healthz /version /version/")]),
    (
        "system:service-account-issuer-discovery",
        "",
        &[paths(
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        )],
    ),
    (
        "system:aggregate-to-admin",
        "admin",
        &[
            on("create", "authorization.k8s.io", "localsubjectaccessreviews"),
            on(ALL, "rbac.authorization.k8s.io", "roles rolebindings"),
        ],
    ),
    (
        "system:aggregate-to-edit",
        "edit",
        &[
            on(READ, "core", "pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy"),
            on("impersonate", "core", "serviceaccounts"),
            on(WRITE, "core", "pods pods/attach pods/proxy pods/exec pods/portforward"),
            on("create", "core", "pods/eviction"),
            on(
                WRITE,
                "core",
                "replicationcontrollers replicationcontrollers/scale serviceaccounts services services/proxy \
                 persistentvolumeclaims configmaps secrets events",
            ),
            on("create", "core", "serviceaccounts/token"),
            on(
                WRITE,
                "apps",
                "statefulsets statefulsets/scale daemonsets deployments deployments/scale deployments/rollback \
                 replicasets replicasets/scale",
            ),
            on(WRITE, "autoscaling", "horizontalpodautoscalers"),
            on(WRITE, "batch", "jobs cronjobs"),
            on(
                WRITE,
                "extensions",
                "daemonsets deployments deployments/scale deployments/rollback ingresses replicasets \
                 replicasets/scale replicationcontrollers/scale networkpolicies",
            ),
            on(WRITE, "policy", "poddisruptionbudgets"),
            on(WRITE, "networking.k8s.io", "networkpolicies ingresses"),
            on(ALL, "coordination.k8s.io", "leases"),
            on(WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
        ],
    ),
    ("system:aggregated-metrics-reader", "view", &[on(READ, "metrics.k8s.io", "nodes pods")]),
    (
        "system:aggregate-to-view",
        "view",
        &[
            on(
                READ,
                "core",
                "pods replicationcontrollers replicationcontrollers/scale serviceaccounts services \
                 services/status endpoints persistentvolumeclaims persistentvolumeclaims/status configmaps",
            ),
            on(
                READ,
                "core",
                "limitranges resourcequotas bindings events pods/status resourcequotas/status \
                 namespaces/status replicationcontrollers/status pods/log",
            ),
            on(READ, "core", "namespaces"),
            on(READ, "discovery.k8s.io", "endpointslices"),
            on(
                READ,
                "apps",
                "controllerrevisions statefulsets statefulsets/status statefulsets/scale daemonsets \
                 daemonsets/status deployments deployments/status deployments/scale replicasets \
                 replicasets/status replicasets/scale",
            ),
            on(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
            on(READ, "batch", "jobs cronjobs cronjobs/status jobs/status"),
            on(
                READ,
                "extensions",
                "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses \
                 ingresses/status replicasets replicasets/scale replicasets/status \
                 replicationcontrollers/scale networkpolicies",
            ),
            on(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
            on(READ, "networking.k8s.io", "networkpolicies ingresses ingresses/status"),
            on(READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
        ],
    ),
    ("system:node", "", NODE),
    (
        "system:node-problem-detector",
        "",
        &[on("get", "core", "nodes"), on("patch", "core", "nodes/status"), EVENTS],
    ),
    (
        "system:node-proxier",
        "",
        &[
            on("list watch", "core", "services endpoints"),
            on(READ, "core", "nodes"),
            on("list watch", "discovery.k8s.io", "endpointslices"),
            on("list watch", "networking.k8s.io", "servicecidrs"),
            EVENTS,
        ],
    ),
    (
        "system:kubelet-api-admin",
        "",
        &[
            on(READ, "core", "nodes"),
            on("proxy", "core", "nodes"),
            on(
                "*",
                "core",
                "nodes/proxy nodes/metrics nodes/spec nodes/stats nodes/log nodes/configz nodes/healthz \
                 nodes/pods",
            ),
        ],
    ),
    ("system:node-bootstrapper", "", &[on("create get list watch", SIGNERS, CSR)]),
    (
        "system:auth-delegator",
        "",
        &[
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    ("system:kube-aggregator", "", &[on(READ, "core", "services endpoints")]),
    (
        "system:kube-controller-manager",
        "",
        &[
            EVENTS,
            on("create", "coordination.k8s.io", "leases"),
            named("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
            on("create", "core", "secrets serviceaccounts"),
            on("delete", "core", "secrets"),
            on("get", "core", "namespaces secrets serviceaccounts configmaps"),
            on("update", "core", "secrets serviceaccounts"),
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
            on("list watch", "*", "*"),
            on("create", "core", "serviceaccounts/token"),
        ],
    ),
    (
        "system:kube-scheduler",
        "",
        &[
            EVENTS,
            on("create", "coordination.k8s.io", "leases"),
            named("get update", "coordination.k8s.io", "leases", "kube-scheduler"),
            on(READ, "core", "nodes namespaces"),
            on("delete get list watch", "core", "pods"),
            on("create", "core", "pods/binding bindings"),
            on("patch update", "core", "pods/status"),
            on(READ, "core", "services replicationcontrollers"),
            on(READ, "apps extensions", "replicasets"),
            on(READ, "apps", "statefulsets"),
            on(READ, "policy", "poddisruptionbudgets"),
            on(READ, "core", "persistentvolumeclaims persistentvolumes"),
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
            on(READ, "storage.k8s.io", "csinodes csidrivers csistoragecapacities volumeattachments"),
            on(READ, "scheduling.k8s.io", "priorityclasses podgroups"),
            on("patch update", "scheduling.k8s.io", "podgroups/status"),
            on(READ, "resource.k8s.io", "resourceclaims deviceclasses resourceslices devicetaintrules"),
            on("create delete patch update", "resource.k8s.io", "resourceclaims"),
            on("patch update", "resource.k8s.io", "resourceclaims/status resourceclaims/binding"),
        ],
    ),
    (
        "system:volume-scheduler",
        "",
        &[
            on("get list patch update watch", "core", "persistentvolumes persistentvolumeclaims"),
            on(READ, "storage.k8s.io", "storageclasses"),
        ],
    ),
    ("system:kube-dns", "", &[on("list watch", "core", "endpoints services")]),
    (
        // What upstream's installer gives to the cluster's DNS.
        "system:coredns",
        "",
        &[
            on("list watch", "core", "endpoints services pods namespaces"),
            on("list watch", "discovery.k8s.io", "endpointslices"),
        ],
    ),
    (
        "system:persistent-volume-provisioner",
        "",
        &[
            on("create delete get list watch", "core", "persistentvolumes"),
            on("get list update watch", "core", "persistentvolumeclaims"),
            on(READ, "storage.k8s.io", "storageclasses"),
            on("watch", "core", "events"),
            EVENTS,
        ],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        "",
        &[on("create", SIGNERS, "certificatesigningrequests/nodeclient")],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        "",
        &[on("create", SIGNERS, "certificatesigningrequests/selfnodeclient")],
    ),
    (
        "system:certificates.k8s.io:legacy-unknown-approver",
        "",
        &[named("approve", SIGNERS, "signers", "kubernetes.io/legacy-unknown")],
    ),
    (
        "system:certificates.k8s.io:kubelet-serving-approver",
        "",
        &[named("approve", SIGNERS, "signers", "kubernetes.io/kubelet-serving")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        "",
        &[named("approve", SIGNERS, "signers", "kubernetes.io/kube-apiserver-client")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        "",
        &[named("approve", SIGNERS, "signers", "kubernetes.io/kube-apiserver-client-kubelet")],
    ),
];

/// A ClusterRole, and whom the binding of the same name gives it to.
pub(super) const BINDINGS: &[(&str, &str)] = &[
    ("cluster-admin", "group:system:masters"),
    ("system:monitoring", "group:system:monitoring"),
    ("system:discovery", "group:system:authenticated"),
    ("system:basic-user", "group:system:authenticated"),
    ("system:public-info-viewer", "group:system:authenticated group:system:unauthenticated"),
    ("system:node-proxier", "user:system:kube-proxy"),
    ("system:kube-controller-manager", "user:system:kube-controller-manager"),
    ("system:kube-dns", "account:kube-system/kube-dns"),
    ("system:coredns", "account:kube-system/coredns"),
    ("system:kube-scheduler", "user:system:kube-scheduler"),
    ("system:volume-scheduler", "user:system:kube-scheduler"),
    // The Node authorizer stands in for it; the binding is there so that an old one loses nothing but subjects.
    ("system:node", ""),
    ("system:service-account-issuer-discovery", "group:system:serviceaccounts"),
    // The certificate with which the API server calls kubelets.
    ("system:kubelet-api-admin", "user:kube-apiserver-kubelet-client"),
];

/// Namespace, name, rules.
pub(super) const NAMESPACED: &[(&str, &str, &[Row])] = &[
    (
        "kube-system",
        "extension-apiserver-authentication-reader",
        &[named(READ, "core", "configmaps", "extension-apiserver-authentication")],
    ),
    ("kube-system", "system:controller:bootstrap-signer", &[on(READ, "core", "secrets")]),
    ("kube-system", "system:controller:cloud-provider", &[on("create get list watch", "core", "configmaps")]),
    (
        "kube-system",
        "system:controller:token-cleaner",
        &[on("delete get list watch", "core", "secrets"), EVENTS],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        &[
            on("watch", "core", "configmaps"),
            named("get update", "core", "configmaps", "kube-controller-manager"),
        ],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        &[on("watch", "core", "configmaps"), named("get update", "core", "configmaps", "kube-scheduler")],
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        &[on(READ, "core", "configmaps"), named("update", "core", "configmaps", "cluster-info"), EVENTS],
    ),
];

/// Namespace, name, Role, subjects.
pub(super) const NAMESPACED_BINDINGS: &[(&str, &str, &str, &str)] = &[
    (
        "kube-system",
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        "user:system:kube-controller-manager user:system:kube-scheduler",
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        "user:system:kube-controller-manager account:kube-system/kube-controller-manager",
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        "user:system:kube-scheduler account:kube-system/kube-scheduler",
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        "account:kube-system/bootstrap-signer",
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        "system:controller:cloud-provider",
        "account:kube-system/cloud-provider",
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        "system:controller:token-cleaner",
        "account:kube-system/token-cleaner",
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        "account:kube-system/bootstrap-signer",
    ),
];

//! The FlowSchemas and priority levels that every cluster has, as upstream has them.

use serde_json::{Value, json};
use tiphys_api::meta;

use super::{GROUP, LEVELS, SCHEMAS};

/// Says whether the server may bring an object up to date with the one that it would make.
pub(super) const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// What cannot be changed or done without.
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

pub(super) fn is_mandatory(name: &str) -> bool {
    MANDATORY.contains(&name)
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}},
        "spec": spec,
    })
}

/// The number of queues, and of those in a hand.
type Queues = (u32, u32);

/// Name, shares, per cent to lend, and queues; without them, what finds no seat is turned away.
const LIMITED: [(&str, u32, u32, Option<Queues>); 7] = [
    ("catch-all", 5, 0, None),
    ("system", 30, 33, Some((64, 6))),
    ("node-high", 40, 25, Some((64, 6))),
    ("leader-election", 10, 0, Some((16, 4))),
    ("workload-high", 40, 50, Some((128, 6))),
    ("workload-low", 100, 90, Some((128, 6))),
    ("global-default", 20, 50, Some((128, 6))),
];

/// The priority levels.
pub(super) fn levels() -> Vec<Value> {
    let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    let limited = LIMITED.map(|(name, shares, lendable, queues)| {
        let response = match queues {
            None => json!({"type": "Reject"}),
            Some((queues, hand)) => {
                let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
                json!({"type": "Queue", "queuing": queuing})
            }
        };
        let limited =
            json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response});
        object("PriorityLevelConfiguration", name, json!({"type": "Limited", "limited": limited}))
    });
    std::iter::once(object("PriorityLevelConfiguration", "exempt", exempt)).chain(limited).collect()
}

fn groups(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "User", "user": {"name": name}})).collect()
}

fn system_accounts() -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "kube-system"}})
}

/// Requests of these verbs to resources of a group, everywhere.
fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster {
        rule["clusterScope"] = true.into();
    }
    rule
}

/// Everything that these subjects ask for.
fn everything(subjects: Vec<Value>) -> Value {
    json!([{
        "subjects": subjects,
        "resourceRules": [resources(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    }])
}

fn schema(name: &str, level: &str, precedence: u32, by: Option<&str>, rules: Value) -> Value {
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": rules,
    });
    if let Some(by) = by {
        spec["distinguisherMethod"] = json!({"type": by});
    }
    object("FlowSchema", name, spec)
}

/// The FlowSchemas.
pub(super) fn schemas() -> Vec<Value> {
    const USER: Option<&str> = Some("ByUser");
    const NAMESPACE: Option<&str> = Some("ByNamespace");
    let everybody = || groups(&["system:unauthenticated", "system:authenticated"]);
    let leases = ["leases"];
    let coordination = "coordination.k8s.io";
    let probes = json!([{
        "subjects": everybody(),
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}],
    }]);
    let mut electors = users(&["system:kube-controller-manager", "system:kube-scheduler"]);
    electors.push(system_accounts());
    let election = json!([{
        "subjects": electors,
        "resourceRules": [resources(&["get", "create", "update"], coordination, &leases, false)],
    }]);
    let nodes = json!([{
        "subjects": groups(&["system:nodes"]),
        "resourceRules": [
            resources(&["*"], "", &["nodes", "nodes/status"], true),
            resources(&["*"], coordination, &leases, false),
        ],
    }]);
    let manager = everything(users(&["system:kube-controller-manager"]));
    let scheduler = everything(users(&["system:kube-scheduler"]));
    vec![
        schema("exempt", "exempt", 1, None, everything(groups(&["system:masters"]))),
        schema("probes", "exempt", 2, None, probes),
        schema("system-leader-election", "leader-election", 100, USER, election),
        schema("system-node-high", "node-high", 400, USER, nodes),
        schema("system-nodes", "system", 500, USER, everything(groups(&["system:nodes"]))),
        schema("kube-controller-manager", "workload-high", 800, NAMESPACE, manager),
        schema("kube-scheduler", "workload-high", 800, NAMESPACE, scheduler),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            NAMESPACE,
            everything(vec![system_accounts()]),
        ),
        schema(
            "service-accounts",
            "workload-low",
            9000,
            USER,
            everything(groups(&["system:serviceaccounts"])),
        ),
        schema("global-default", "global-default", 9900, USER, everything(everybody())),
        schema("catch-all", "catch-all", 10000, USER, everything(everybody())),
    ]
}

/// All of them with their group and resource, for a cluster's first start.
pub(crate) fn bootstrap() -> Vec<(&'static str, &'static str, Value)> {
    let levels = levels().into_iter().map(|level| (GROUP, LEVELS, level));
    levels.chain(schemas().into_iter().map(|schema| (GROUP, SCHEMAS, schema))).collect()
}

/// The object as the server would have it, should it differ from `there` in what the server may change: a mandatory
/// one always, another if its annotation says so, or says nothing while nobody has changed its spec.
pub(super) fn update(there: &Value, wanted: &Value) -> Option<Value> {
    let name = meta::name(wanted);
    let annotation = there["metadata"]["annotations"][AUTO_UPDATE].as_str();
    let mandatory = is_mandatory(name);
    let ours = match annotation {
        _ if mandatory => true,
        Some(said) => said == "true",
        None => there["metadata"]["generation"].as_u64() == Some(1),
    };
    // Of the exempt level, an administrator may say how many seats are kept free for it.
    let exempt = |object: &Value| object["spec"]["type"] == "Exempt";
    let same = there["spec"] == wanted["spec"] || (exempt(there) && exempt(wanted));
    let annotated = annotation == Some("true") || !mandatory;
    if !ours || (same && annotated) {
        return None;
    }
    let mut object = there.clone();
    if !same {
        object["spec"] = wanted["spec"].clone();
    }
    let annotations = meta::child_mut(meta::metadata_mut(&mut object), "annotations");
    annotations.insert(AUTO_UPDATE.to_owned(), "true".into());
    Some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Value {
        schemas().into_iter().find(|schema| meta::name(schema) == name).unwrap()
    }

    #[test]
    fn objects_are_brought_up_to_date_where_that_is_the_servers_to_do() {
        let cases = [
            // Name, annotation, generation, whether the spec differs, whether it is brought back.
            ("exempt", Some("true"), 1, false, false),
            ("exempt", Some("true"), 2, true, true),
            ("exempt", Some("false"), 1, false, true),
            ("exempt", None, 3, true, true),
            ("global-default", Some("true"), 5, true, true),
            ("global-default", Some("false"), 1, true, false),
            ("global-default", None, 1, true, true),
            ("global-default", None, 2, true, false),
            ("global-default", None, 1, false, false),
        ];
        for case @ (name, annotation, generation, differs, back) in cases {
            let wanted = named(name);
            let mut there = wanted.clone();
            there["metadata"]["generation"] = generation.into();
            match annotation {
                Some(said) => there["metadata"]["annotations"][AUTO_UPDATE] = said.into(),
                None => there["metadata"]["annotations"] = json!({}),
            }
            if differs {
                there["spec"]["matchingPrecedence"] = 77.into();
            }
            let updated = update(&there, &wanted);
            assert_eq!(updated.is_some(), back, "{case:?}");
            if let Some(updated) = updated {
                assert_eq!(updated["spec"], wanted["spec"], "{case:?}");
                assert_eq!(updated["metadata"]["annotations"][AUTO_UPDATE], "true", "{case:?}");
            }
        }
    }

    #[test]
    fn the_seats_of_the_exempt_level_are_the_administrators() {
        let wanted = levels().into_iter().find(|level| meta::name(level) == "exempt").unwrap();
        let mut there = wanted.clone();
        there["spec"]["exempt"]["nominalConcurrencyShares"] = 7.into();
        assert_eq!(update(&there, &wanted), None);
    }
}

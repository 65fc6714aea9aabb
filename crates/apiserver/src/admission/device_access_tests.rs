use serde_json::json;

use super::*;
use crate::{
    admission::tests::Case,
    authz::{Attributes as Asked, Authorizer},
    identity::Identity,
    source::fake::Table,
};

/// Lets these be done: verb, subresource, namespace and name.
struct Allow(&'static [(&'static str, &'static str, &'static str, &'static str)]);

impl Authorizer for Allow {
    fn authorize(&self, asked: &Asked<'_>) -> Decision {
        let Target::Resource { group: GROUP, resource: CLAIMS, subresource, namespace, name, .. } =
            asked.target
        else {
            return Decision::NoOpinion { reason: String::new() };
        };
        match self.0.contains(&(asked.verb, subresource, namespace, name)) {
            true => Decision::Allow { reason: String::new() },
            false => Decision::NoOpinion { reason: String::new() },
        }
    }
}

fn plugin(allow: &'static [(&'static str, &'static str, &'static str, &'static str)]) -> DeviceAccess {
    let namespaces = [("admins", json!({"resource.kubernetes.io/admin-access": "true"})), ("ns", json!({}))];
    let namespaces = namespaces
        .map(|(name, labels)| ("", "namespaces", json!({"metadata": {"name": name, "labels": labels}})));
    DeviceAccess::new(Arc::new(Table::with(&namespaces)), Arc::new(Chain::new(vec![Arc::new(Allow(allow))])))
}

fn case(operation: Operation, resource: &'static str, namespace: &'static str) -> Case<'static> {
    Case { group: GROUP, namespace, ..Case::new(operation, resource, "c") }
}

#[tokio::test]
async fn administrators_access_needs_a_label_on_the_namespace() {
    let spec = |admin: bool| json!({"devices": {"requests": [{"name": "a", "exactly": {}}, {"name": "r", "exactly": {"adminAccess": admin}}]}});
    let status = |admin: bool| json!({"metadata": {"name": "c"}, "status": {"allocation": {"devices": {"results": [{"adminAccess": admin}]}}}});
    let plugin = plugin(&[("update", "binding", "", "")]);
    let refused = |path: &str| {
        let why = "admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the \
                   containing namespace";
        format!("{path}.adminAccess: Forbidden: {why}")
    };
    for (operation, resource, object, old, path) in [
        (Operation::Create, CLAIMS, json!({"spec": spec(true)}), Value::Null, "spec.devices.requests[1]"),
        (
            Operation::Create,
            "resourceclaimtemplates",
            json!({"spec": {"spec": spec(true)}}),
            Value::Null,
            "spec.devices.requests[1]",
        ),
        (
            Operation::Update,
            "resourceclaims/status",
            status(true),
            status(false),
            "status.allocation.devices.results[0]",
        ),
    ] {
        let run = async |namespace| {
            case(operation, resource, namespace).run(&plugin, object.clone(), old.clone()).await
        };
        assert!(run("admins").await.is_ok(), "{resource}");
        let (code, message) = run("ns").await.unwrap_err();
        assert!(code == 422 && message.contains(&refused(path)), "{message}");
    }
    for (resource, object) in [
        (CLAIMS, json!({"spec": spec(false)})),
        ("resourceclaimtemplates", json!({"spec": {"spec": spec(false)}})),
    ] {
        assert!(case(Operation::Create, resource, "ns").run(&plugin, object, Value::Null).await.is_ok());
    }
    // Where it was granted, that stays.
    let kept = case(Operation::Update, "resourceclaims/status", "ns");
    assert!(kept.run(&plugin, status(true), status(true)).await.is_ok());
}

#[tokio::test]
async fn each_part_of_a_status_is_for_who_may_write_it() {
    const BIND: (&str, &str, &str, &str) = ("update", "binding", "", "");
    const TELL: (&str, &str, &str, &str) = ("arbitrary-node:update", "driver", "ns", "d");
    let node = json!({"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]});
    let claim = |device: &str, told: Value| {
        json!({"metadata": {"name": "c"}, "status": {"devices": told, "allocation": {"nodeSelector": node,
            "devices": {"results": [{"driver": "d", "pool": "p", "device": device}]}}}})
    };
    let told = |data: u8| json!([{"driver": "d", "pool": "p", "device": "a", "data": {"x": data}}]);
    let run = async |allow, new: Value, old: Value| {
        let answer =
            case(Operation::Update, "resourceclaims/status", "ns").run(&plugin(allow), new, old).await;
        answer.map(|_| ()).map_err(|(_, message)| message)
    };
    let same = claim("a", told(1));
    assert_eq!(run(&[], same.clone(), same.clone()).await, Ok(()));
    // Another device.
    let (moved, bare) = (claim("b", json!([])), claim("a", json!([])));
    let why = run(&[TELL], moved.clone(), bare.clone()).await.unwrap_err();
    assert!(
        why.contains(
            "status: Forbidden: changing status.allocation or status.reservedFor requires \
             resource=\"resourceclaims/binding\", verb=\"update\" permission: "
        ),
        "{why}"
    );
    assert_eq!(run(&[BIND], moved.clone(), bare.clone()).await, Ok(()));
    // Something is told of it, something else, and nothing more.
    for (new, old) in [(told(1), json!([])), (told(2), told(1)), (json!([]), told(1))] {
        let (new, old) = (claim("a", new), claim("a", old));
        let why =
            run(&[BIND, ("arbitrary-node:update", "driver", "ns", "other")], new.clone(), old.clone()).await;
        let why = why.unwrap_err();
        assert!(
            why.contains(
                "changing status.devices requires resource=\"resourceclaims/driver\", \
                 verb=\"[arbitrary-node:update]\" permission: "
            ),
            "{why}"
        );
        assert_eq!(run(&[TELL], new, old).await, Ok(()));
    }
    // What was told of a device goes with it.
    assert_eq!(run(&[BIND], moved, same).await, Ok(()));
}

#[test]
fn who_is_on_the_node_of_the_devices_is_asked_for_less() {
    let on = |values: Value| {
        json!({"status": {"allocation": {"nodeSelector": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": values}]}]}}}})
    };
    assert_eq!(node_of(&on(json!(["n"]))), Some("n"));
    assert_eq!(node_of(&on(json!(["n", "m"]))), None);
    assert_eq!(node_of(&json!({})), None);
    let bound = |node: &str| [(NODE_NAME.to_owned(), vec![node.to_owned()])].into();
    let (own, both) = ("arbitrary-node:patch", vec!["associated-node:patch", "arbitrary-node:patch"]);
    for (user, wanted) in [
        (Identity::service_account("ns", "driver", "", bound("n")), both),
        (Identity::service_account("ns", "driver", "", bound("m")), vec![own]),
        (Identity::authenticated("driver", "", Vec::new(), bound("n")), vec![own]),
    ] {
        let case = Case { user, ..case(Operation::Update, "resourceclaims/status", "ns") };
        assert_eq!(verbs(&case.attributes(), "patch", &on(json!(["n"]))), wanted);
    }
}

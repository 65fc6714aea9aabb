use serde_json::{Value, json};

use super::*;
use crate::testing::pod_from;

fn rule(operator: &str, values: &[i32]) -> Value {
    json!({"action": "Restart", "exitCodes": {"operator": operator, "values": values}})
}

#[test]
fn a_containers_rules_go_before_its_policy_and_that_before_the_pods() {
    let restarts_after = |policy: &str, list: &str, container: Value| {
        let mut spec = json!({"restartPolicy": policy, "containers": []});
        spec[list] = json!([container]);
        let pod = pod_from(json!({"spec": spec}));
        let all: Vec<_> = all_containers(&pod).collect();
        let codes = [0, 1, 42].into_iter().filter(|code| restarts(&pod, &all[0], *code)).collect::<Vec<_>>();
        assert_eq!(may_restart(&pod, &all[0]), !codes.is_empty());
        codes
    };
    let own = |policy: &str, rules: &[Value]| json!({"name": "c", "restartPolicy": policy, "restartPolicyRules": rules});
    let main = "containers";
    for (policy, list, container, want) in [
        ("Always", main, json!({"name": "c"}), vec![0, 1, 42]),
        ("OnFailure", main, json!({"name": "c"}), vec![1, 42]),
        ("Never", main, json!({"name": "c"}), vec![]),
        ("Never", main, own("OnFailure", &[]), vec![1, 42]),
        ("Always", main, own("Never", &[]), vec![]),
        ("Never", main, own("Never", &[rule("In", &[42])]), vec![42]),
        ("Always", main, own("Never", &[rule("In", &[7]), rule("NotIn", &[0, 1])]), vec![42]),
        ("Never", main, own("OnFailure", &[rule("In", &[0])]), vec![0, 1, 42]),
        // Without a policy of the container's own there are no rules.
        ("Never", main, json!({"name": "c", "restartPolicyRules": [rule("In", &[42])]}), vec![]),
        (
            "Never",
            main,
            own("Never", &[json!({"action": "Else", "exitCodes": {"operator": "In", "values": [1]}})]),
            vec![],
        ),
        ("Always", "initContainers", json!({"name": "c"}), vec![1, 42]),
        ("Never", "initContainers", own("Always", &[]), vec![0, 1, 42]),
        ("Never", "initContainers", own("Never", &[rule("In", &[0, 42])]), vec![42]),
        ("Always", "ephemeralContainers", json!({"name": "c"}), vec![]),
    ] {
        assert_eq!(restarts_after(policy, list, container.clone()), want, "{policy} {list} {container}");
    }
}

#[test]
fn devices_are_claimed_by_name_or_for_resources() {
    let claims = |pod: Value| claims_devices(&pod_from(pod));
    let spec = json!({"containers": []});
    assert!(!claims(json!({"spec": spec})));
    assert!(claims(
        json!({"spec": {"containers": [], "resourceClaims": [{"name": "g", "resourceClaimName": "c"}]}})
    ));
    let told = json!({"extendedResourceClaimStatus": {"resourceClaimName": "p-x", "requestMappings": []}});
    assert!(claims(json!({"spec": spec, "status": told})));
}

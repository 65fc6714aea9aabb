use super::*;

#[test]
fn service_accounts_are_told_from_users_that_look_like_them() {
    assert_eq!(parse_service_account("system:serviceaccount:ns:name"), Some(("ns", "name")));
    for user in [
        "system:serviceaccount:ns",
        "system:serviceaccount::name",
        "system:serviceaccount:ns:",
        "system:serviceaccount:ns:a:b",
        "system:serviceaccount:Ns:name",
        "serviceaccount:ns:name",
        "",
    ] {
        assert_eq!(parse_service_account(user), None, "{user:?}");
    }
}

#[test]
fn components_are_who_upstream_says() {
    let cases: [(Component, &str, &[&str]); 5] = [
        (Component::Scheduler, "system:kube-scheduler", &[AUTHENTICATED]),
        (
            Component::Controller("job-controller"),
            "system:serviceaccount:kube-system:job-controller",
            &["system:serviceaccounts", "system:serviceaccounts:kube-system", AUTHENTICATED],
        ),
        (Component::Node("n1".to_owned()), "system:node:n1", &[NODES, AUTHENTICATED]),
        (Component::ApiServer, "system:apiserver", &[MASTERS, AUTHENTICATED]),
        (Component::Proxy, "system:kube-proxy", &[AUTHENTICATED]),
    ];
    for (component, name, groups) in cases {
        let identity = component.identity();
        assert_eq!(identity.name(), name);
        assert_eq!(identity.groups(), groups, "{name}");
    }
}

#[test]
fn only_kubelets_have_a_node() {
    let user =
        |name: &str, group: &str| Identity::authenticated(name, "", vec![group.to_owned()], BTreeMap::new());
    assert_eq!(Component::Node("n1".to_owned()).identity().node_name(), Some("n1"));
    assert_eq!(user("system:node:", NODES).node_name(), Some(""));
    assert_eq!(user("system:node:n1", "others").node_name(), None);
    assert_eq!(user("jane", NODES).node_name(), None);
}

#[test]
fn a_component_manages_fields_under_its_plain_name() {
    let cases = [
        (Component::Node("n1".to_owned()), "kubelet"),
        (Component::Scheduler, "kube-scheduler"),
        (Component::Controller("job-controller"), "kube-controller-manager"),
    ];
    for (component, manager) in cases {
        assert_eq!(component.user_agent().split('/').next(), Some(manager));
    }
}

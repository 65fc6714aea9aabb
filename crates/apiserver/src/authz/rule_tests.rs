use super::*;

fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> Rule {
    let list = |text: &str| text.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let mut api_groups = list(groups);
    api_groups.iter_mut().filter(|g| *g == "core").for_each(String::clear);
    Rule {
        verbs: list(verbs),
        api_groups,
        resources: list(resources),
        resource_names: list(names),
        non_resource_urls: Vec::new(),
    }
}

fn url(verbs: &str, urls: &[&str]) -> Rule {
    let urls = urls.iter().map(|u| (*u).to_owned()).collect();
    Rule { non_resource_urls: urls, ..rule(verbs, "", "", "") }
}

#[test]
fn allows() {
    let target = |group: &'static str, resource: &'static str, name: &'static str| {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Target::Resource {
            group,
            version: "v1",
            resource,
            subresource,
            namespace: "ns",
            name,
            field_selector: "",
            label_selector: "",
        }
    };
    let cases = [
        (rule("get", "core", "pods", ""), "get", target("", "pods", "x"), true),
        (rule("get", "core", "pods", ""), "list", target("", "pods", ""), false),
        (rule("get", "core", "pods", ""), "get", target("apps", "pods", "x"), false),
        (rule("get", "core", "pods", ""), "get", target("", "pods/log", "x"), false),
        (rule("get", "core", "pods/log", ""), "get", target("", "pods/log", "x"), true),
        (rule("get", "core", "pods/log", ""), "get", target("", "pods", "x"), false),
        (rule("*", "*", "*", ""), "escalate", target("any", "pods/log", "x"), true),
        (rule("get", "*", "*/scale", ""), "get", target("apps", "deployments/scale", "x"), true),
        (rule("get", "*", "*/scale", ""), "get", target("apps", "deployments", "x"), false),
        (rule("get", "core", "pods", "a b"), "get", target("", "pods", "b"), true),
        (rule("get", "core", "pods", "a b"), "get", target("", "pods", "c"), false),
        (rule("list", "core", "pods", "a"), "list", target("", "pods", ""), false),
        (rule("get", "core", "pods", ""), "get", Target::Path("/pods"), false),
        (url("get", &["/healthz/*"]), "get", Target::Path("/healthz/etcd"), true),
        (url("get", &["/healthz/*"]), "get", Target::Path("/healthz"), false),
        (url("get", &["/healthz"]), "get", Target::Path("/healthz"), true),
        (url("get", &["/healthz"]), "post", Target::Path("/healthz"), false),
        (url("get", &["*"]), "get", Target::Path("/x"), true),
        (url("get", &["*"]), "get", target("", "pods", "x"), false),
        (Rule::default(), "get", target("", "pods", "x"), false),
    ];
    for (rule, verb, target, want) in cases {
        assert_eq!(rule.allows(verb, &target), want, "{rule:?} {verb} {target:?}");
    }
}

#[test]
fn covers() {
    let cases: [(Vec<Rule>, Vec<Rule>, &[&str]); 11] = [
        (vec![rule("*", "*", "*", "")], vec![rule("get", "core", "pods", "")], &[]),
        (vec![rule("get", "core", "*/scale", "")], vec![rule("get", "core", "pods/scale", "")], &[]),
        (
            vec![rule("get", "core", "pods", ""), rule("list", "core", "pods", "")],
            vec![rule("get list", "core", "pods", "")],
            &[],
        ),
        (
            vec![rule("get", "core", "pods", "")],
            vec![rule("get list watch", "core", "pods", "")],
            &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}"#],
        ),
        (vec![rule("get", "core", "pods", "")], vec![rule("get", "core", "pods", "a")], &[]),
        (
            vec![rule("get", "core", "pods", "a")],
            vec![rule("get", "core", "pods", "a b")],
            &[r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["b"], Verbs:["get"]}"#],
        ),
        (
            vec![rule("get", "core", "pods", "a")],
            vec![rule("get", "core", "pods", "")],
            &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#],
        ),
        (
            vec![rule("get", "core", "pods", "")],
            vec![rule("*", "core", "pods", "")],
            &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["*"]}"#],
        ),
        (vec![url("get", &["/a/*"])], vec![url("get", &["/a/b", "/a/*"])], &[]),
        (
            vec![url("get", &["/a"])],
            vec![url("get", &["/a/*"])],
            &[r#"{NonResourceURLs:["/a/*"], Verbs:["get"]}"#],
        ),
        (vec![], vec![], &[]),
    ];
    for (owned, wanted, want) in cases {
        let missing: Vec<String> = not_covered(&owned, &wanted).iter().map(Rule::compact).collect();
        assert_eq!(missing, want, "{owned:?} of {wanted:?}");
    }
}

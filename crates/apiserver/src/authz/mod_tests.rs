use std::{collections::BTreeMap, sync::Arc};

use super::*;
use crate::testing::wait;

fn jane() -> Identity {
    Identity::authenticated("jane", "", Vec::new(), BTreeMap::new())
}

fn pods<'a>(namespace: &'a str, name: &'a str, subresource: &'a str) -> Target<'a> {
    Target::Resource {
        group: "",
        version: "v1",
        resource: "pods",
        subresource,
        namespace,
        name,
        field_selector: "",
        label_selector: "",
    }
}

#[test]
fn refusals_read_as_upstream_writes_them() {
    let user = jane();
    let cases = [
        (
            "list",
            pods("ns", "", ""),
            "",
            r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "ns""#,
        ),
        (
            "create",
            pods("ns", "p", "exec"),
            "no way",
            r#"pods "p" is forbidden: User "jane" cannot create resource "pods/exec" in API group "" in the namespace "ns": no way"#,
        ),
        (
            "list",
            pods("", "", ""),
            "",
            r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" at the cluster scope"#,
        ),
        ("get", Target::Path("/metrics"), "", r#"forbidden: User "jane" cannot get path "/metrics""#),
        ("get", Target::Path("/<b>&"), "", r#"forbidden: User "jane" cannot get path "/&lt;b&gt;&amp;""#),
    ];
    for (verb, target, reason, want) in cases {
        let status = Attributes { user: &user, verb, target }.forbidden(reason);
        assert_eq!(status.message, want);
        assert_eq!(status.code(), 403);
    }
}

struct Says(Decision);

impl Authorizer for Says {
    fn authorize(&self, _: &Attributes<'_>) -> Decision {
        self.0.clone()
    }
}

#[test]
fn the_first_opinion_decides_and_masters_may_all() {
    let says = |decision| Arc::new(Says(decision)) as Arc<dyn Authorizer>;
    let none = |reason: &str| Decision::NoOpinion { reason: reason.to_owned() };
    let deny = || Decision::Deny { reason: "denied".to_owned() };
    let allow = || Decision::Allow { reason: "allowed".to_owned() };
    let ask = |decisions: Vec<Decision>, user: &Identity| {
        let chain = Chain::new(decisions.into_iter().map(says).collect());
        wait(chain.authorize(&Attributes { user, verb: "get", target: Target::Path("/") }))
    };
    assert_eq!(ask(vec![none("a"), none(""), none("b")], &jane()), none("a\nb"));
    assert_eq!(ask(vec![none("a"), allow(), deny()], &jane()), allow());
    assert_eq!(ask(vec![deny(), allow()], &jane()), deny());
    let failed = |denied| Decision::Failed { error: "e".to_owned(), denied };
    assert_eq!(ask(vec![failed(false), allow()], &jane()), allow(), "others may know better");
    assert_eq!(ask(vec![failed(false), none("a")], &jane()), failed(false));
    assert_eq!(ask(vec![failed(true), allow()], &jane()), failed(true));
    let master =
        Identity::authenticated("root", "", vec![crate::identity::MASTERS.to_owned()], BTreeMap::new());
    assert_eq!(ask(vec![deny()], &master), Decision::Allow { reason: String::new() });
}

use std::sync::Arc;

use http::HeaderValue;

use super::*;
use crate::{
    authz::{Authorizer, Decision},
    testing::wait,
};

/// Allows what is listed as `resource/subresource namespace/name`.
struct Allowed(&'static [&'static str]);

impl Authorizer for Allowed {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        assert_eq!(attributes.verb, "impersonate");
        let Target::Resource { resource, subresource, namespace, name, .. } = attributes.target else {
            panic!("{attributes:?}")
        };
        if self.0.contains(&format!("{resource}/{subresource} {namespace}/{name}").as_str()) {
            return Decision::Allow { reason: String::new() };
        }
        Decision::NoOpinion { reason: String::new() }
    }
}

fn headers(list: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn ask(allowed: &'static [&'static str], list: &[(&str, &str)]) -> Result<Identity, Status> {
    let admin = Identity::authenticated("admin", "", Vec::new(), BTreeMap::new());
    wait(impersonate(&Chain::new(vec![Arc::new(Allowed(allowed))]), admin, &headers(list)))
}

#[test]
fn without_headers_one_stays_oneself() {
    assert_eq!(ask(&[], &[("accept", "x")]).unwrap().name(), "admin");
}

#[test]
fn groups_follow_from_who_one_becomes() {
    let groups = |allowed, list: &[(&str, &str)]| ask(allowed, list).unwrap().groups().to_vec();
    assert_eq!(groups(&["users/ /jane"], &[("Impersonate-User", "jane")]), [AUTHENTICATED]);
    assert_eq!(
        groups(
            &["users/ /jane", "groups/ /dev"],
            &[("Impersonate-User", "jane"), ("Impersonate-Group", "dev")]
        ),
        ["dev", AUTHENTICATED]
    );
    assert_eq!(
        groups(&["serviceaccounts/ ns/sa"], &[("Impersonate-User", "system:serviceaccount:ns:sa")]),
        ["system:serviceaccounts", "system:serviceaccounts:ns", AUTHENTICATED]
    );
    assert_eq!(groups(&["users/ /system:anonymous"], &[("Impersonate-User", ANONYMOUS)]), [UNAUTHENTICATED]);
    assert_eq!(
        groups(
            &["users/ /jane", "groups/ /system:unauthenticated"],
            &[("Impersonate-User", "jane"), ("Impersonate-Group", UNAUTHENTICATED)]
        ),
        [UNAUTHENTICATED]
    );
}

#[test]
fn every_part_needs_a_permission() {
    let all: [(&str, &str, &str); 4] = [
        ("Impersonate-User", "jane", "cannot impersonate resource \"users\""),
        ("Impersonate-Group", "dev", "cannot impersonate resource \"groups\""),
        ("Impersonate-Uid", "7", "cannot impersonate resource \"uids\""),
        ("Impersonate-Extra-Acme.com%2Fproject", "x", "\"userextras/acme.com/project\""),
    ];
    let list: Vec<(&str, &str)> = all.iter().map(|(name, value, _)| (*name, *value)).collect();
    let steps: [&'static [&'static str]; 4] = [
        &[],
        &["users/ /jane"],
        &["users/ /jane", "groups/ /dev", "userextras/acme.com/project /x"],
        &["users/ /jane", "groups/ /dev"],
    ];
    for (allowed, missing) in steps.into_iter().zip([0, 1, 2, 3]) {
        let error = ask(allowed, &list).unwrap_err();
        assert_eq!(error.code(), 403);
        assert!(error.message.contains(all[missing].2), "{allowed:?}: {error}");
    }
    let user =
        ask(&["users/ /jane", "groups/ /dev", "uids/ /7", "userextras/acme.com/project /x"], &list).unwrap();
    assert_eq!((user.name(), user.uid()), ("jane", "7"));
    assert_eq!(user.extra()["acme.com/project"], ["x"]);
}

#[test]
fn parts_without_a_user_are_refused_and_odd_bytes_harm_nothing() {
    let none = "Extra:map[string][]string(nil)";
    for (list, told) in [
        (
            vec![("Impersonate-Group", "dev"), ("Impersonate-Group", "ops")],
            format!(r#"UID:"", Groups:[]string{{"dev", "ops"}}, {none}"#),
        ),
        (vec![("Impersonate-Uid", "7")], format!(r#"UID:"7", Groups:[]string(nil), {none}"#)),
        (
            vec![("Impersonate-Extra-b", "x"), ("Impersonate-Extra-b", "y"), ("Impersonate-Extra-a", "z")],
            r#"UID:"", Groups:[]string(nil), Extra:map[string][]string{"a":[]string{"z"}, "b":[]string{"x", "y"}}"#
                .to_owned(),
        ),
    ] {
        let refused = ask(&[], &list).unwrap_err();
        let told =
            format!(r#"requested &user.DefaultInfo{{Name:"", {told}}} without impersonating a user name"#);
        assert_eq!((refused.code(), refused.message), (400, told));
    }
    for key in ["%", "%f", "%zz", "%ff", "a%2", ""] {
        assert_eq!(unescape(key), key);
    }
}

#[test]
fn headers_are_removed_before_a_request_goes_on() {
    let mut all = headers(&[("Impersonate-User", "a"), ("Impersonate-Extra-B", "c"), ("Accept", "x")]);
    strip(&mut all);
    assert_eq!(all, headers(&[("Accept", "x")]));
}

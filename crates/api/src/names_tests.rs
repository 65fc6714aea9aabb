use super::*;

#[test]
fn names_are_judged_by_their_rules() {
    type Rule = fn(&str) -> Vec<String>;
    let label: Rule = |n| dns_label(n, false);
    let dns1035: Rule = |n| dns1035_label(n, false);
    let subdomain: Rule = |n| dns_subdomain(n, false);
    let segment: Rule = |n| path_segment(n, false);
    let long = "a".repeat(64);
    let search: Rule = dns_subdomain_with_underscores;
    let cases: [(Rule, &str, &[&str], &[&str]); 11] = [
        (label, "label", &["a", "0", "a-1"], &["", "A", "-a", "a-", "a.b", "a_b", &long]),
        (dns1035, "1035", &["a", "a-1"], &["0", "", "1a", &long]),
        (subdomain, "subdomain", &["a", "a.b", "0.1-x"], &["", "a..b", ".a", "a.", "A.b", "a_b"]),
        (
            search,
            "search",
            &["a", "_tcp.a_b.c", "a--_b"],
            &["", ".", "_", "__a", "a_", "a._", "a..b", "-a", "A"],
        ),
        (segment, "segment", &["system:node", "A b"], &[".", "..", "a/b", "a%b"]),
        (label_key, "key", &["a", "A_b.c", "x.io/A"], &["", "/a", "x/", "a/b/c", "X.io/a", "-a", &long]),
        (label_value, "value", &["", "a", "A_b.c"], &["-a", "a-", "a b", &long]),
        (config_key, "config key", &["a", ".bashrc", "A_B"], &["", ".", "..", "..a", "a/b"]),
        (env_name, "env", &["A", "my.env-name", "1A"], &["", "A=B", "ä"]),
        (port_name, "port", &["http", "a-1"], &["", "80", "a--b", "-a", "a-", "A", "abcdefghijklmnop"]),
        (percent, "percent", &["1%", "100%"], &["", "%", "1", "1.5%"]),
    ];
    for (rule, what, good, bad) in cases {
        for name in good {
            assert!(rule(name).is_empty(), "{what} {name:?}: {:?}", rule(name));
        }
        for name in bad {
            assert!(!rule(name).is_empty(), "{what} {name:?} passed");
        }
    }
}

#[test]
fn a_prefix_may_end_in_a_dash() {
    assert!(dns_subdomain("web-", true).is_empty());
    assert!(!dns_subdomain("web-", false).is_empty());
    assert!(!dns_subdomain("-", true).is_empty());
}

#[test]
fn the_words_are_those_that_people_search_for() {
    assert_eq!(dns_label("a.b", false), ["must not contain dots"]);
    assert_eq!(dns_label(&"a".repeat(64), false), ["must be no more than 63 characters"]);
    assert!(dns_subdomain("Web", false)[0].starts_with("a lowercase RFC 1123 subdomain must consist of"));
    assert_eq!(port(0), ["must be between 1 and 65535, inclusive"]);
    assert_eq!(config_key("..x"), ["must not start with '..'"]);
}

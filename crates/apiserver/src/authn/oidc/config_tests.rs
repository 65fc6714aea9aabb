use super::*;

/// A configuration of one issuer and what else is said, in YAML's flow style.
fn parsed(jwt: &str, rest: &str) -> Result<Config, String> {
    let text = format!(
        "{{apiVersion: apiserver.config.k8s.io/v1beta1, kind: AuthenticationConfiguration, jwt: [{jwt}]{rest}}}"
    );
    parse(text.as_bytes()).map_err(|error| error.to_string())
}

const ISSUER: &str = "issuer: {url: 'https://a.example', audiences: [us]}";
const MAPPINGS: &str = "claimMappings: {username: {claim: sub, prefix: 'o:'}}";

fn jwt(issuer: &str, mappings: &str, rest: &str) -> String {
    format!("{{{issuer}, {mappings}{rest}}}")
}

#[test]
fn issuers_say_where_they_are_and_what_their_claims_mean() {
    let first = jwt(
        "issuer: {url: 'https://a.example/', audiences: [us, them], audienceMatchPolicy: MatchAny}",
        "claimMappings: {username: {claim: sub, prefix: 'o:'}, groups: {claim: groups, prefix: ''}, \
         uid: {claim: sub}}",
        ", claimValidationRules: [{claim: org, requiredValue: x}]",
    );
    let second = jwt(
        "issuer: {url: 'https://b.example', discoveryURL: 'https://c.example/d', audiences: [us]}",
        "claimMappings: {username: {expression: claims.sub}}",
        "",
    );
    let config = parsed(&format!("{first}, {second}"), "").unwrap();
    let [a, b] = config.issuers.as_slice() else { panic!("{config:?}") };
    assert_eq!(a.discovery(), "https://a.example/.well-known/openid-configuration");
    assert_eq!(b.discovery(), "https://c.example/d");
    assert!(matches!(&a.username, Mapping::Claim { claim, prefix } if claim == "sub" && prefix == "o:"));
    assert_eq!((a.audiences.len(), a.required.len()), (2, 1));
    assert!(a.groups.is_some() && a.uid.is_some() && b.groups.is_none());
    assert!(matches!(b.username, Mapping::Expression(_)));
    assert_eq!(config.anonymous, None);
    assert!(parsed("", "").unwrap().issuers.is_empty(), "issuers may come later");
}

#[test]
fn those_without_credentials_are_let_in_where_it_is_said() {
    let anonymous = |text: &str| parsed("", &format!(", anonymous: {text}")).map(|c| c.anonymous.unwrap());
    assert_eq!(anonymous("{enabled: true}"), Ok(Anonymous::Everywhere));
    assert_eq!(anonymous("{enabled: false}"), Ok(Anonymous::At(Vec::new())));
    let paths = Anonymous::At(vec!["/livez".to_owned(), "/x".to_owned()]);
    assert!(paths.lets("/x") && !paths.lets("/x/y") && Anonymous::Everywhere.lets("/x"));
    assert_eq!(anonymous("{enabled: true, conditions: [{path: /livez}, {path: /x}]}"), Ok(paths));
    assert_eq!(
        anonymous("{enabled: false, conditions: [{path: /livez}]}").unwrap_err(),
        "anonymous.conditions: Invalid value: [\"/livez\"]: enabled should be set to true when conditions are defined"
    );
}

#[test]
fn what_is_wrong_is_told_by_its_field() {
    let issuer = |from: &str, to: &str| jwt(&ISSUER.replace(from, to), MAPPINGS, "");
    let mappings = |mappings: &str| jwt(ISSUER, &format!("claimMappings: {{{mappings}}}"), "");
    let name = "username: {claim: sub, prefix: ''}";
    let rules = |rules: &str| jwt(ISSUER, MAPPINGS, &format!(", claimValidationRules: [{rules}]"));
    let users = |rules: &str| jwt(ISSUER, MAPPINGS, &format!(", userValidationRules: [{rules}]"));
    let good = jwt(ISSUER, MAPPINGS, "");
    for (jwt, wanted) in [
        (issuer("https://a.example", ""), "jwt[0].issuer.url: Required value"),
        (
            issuer("https", "http"),
            "jwt[0].issuer.url: Invalid value: \"http://a.example\": URL scheme must be https",
        ),
        (issuer("https://", "https://u:p@"), "URL must not contain a username or password"),
        (issuer("a.example", "a.example?q=1"), "URL must not contain a query"),
        (issuer("a.example", "a.example#f"), "URL must not contain a fragment"),
        (
            issuer("audiences", "discoveryURL: 'https://a.example/', audiences"),
            "jwt[0].issuer.discoveryURL: Invalid value: \"https://a.example/\": discoveryURL must be different from URL",
        ),
        (issuer("[us]", "[]"), "jwt[0].issuer.audiences: Required value"),
        (
            issuer("[us]", "[us, us], audienceMatchPolicy: MatchAny"),
            "jwt[0].issuer.audiences[1]: Duplicate value: \"us\"",
        ),
        (
            issuer("[us]", "[us, them]"),
            "jwt[0].issuer.audienceMatchPolicy: Invalid value: \"\": audienceMatchPolicy must be MatchAny for multiple \
             audiences",
        ),
        (
            issuer("[us]", "[us], certificateAuthority: x"),
            "jwt[0].issuer.certificateAuthority: Invalid value: \"<omitted>\"",
        ),
        (format!("{good}, {good}"), "jwt[1].issuer.url: Duplicate value: \"https://a.example\""),
        (mappings(""), "jwt[0].claimMappings.username: Required value: claim or expression is required"),
        (
            mappings("username: {claim: sub}"),
            "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set",
        ),
        (
            mappings("username: {claim: sub, prefix: '', expression: claims.sub}"),
            "jwt[0].claimMappings.username: Invalid value: \"\": claim and expression can't both be set",
        ),
        (
            mappings("username: {prefix: a, expression: claims.sub}"),
            "jwt[0].claimMappings.username.prefix: Invalid value: \"a\": may not be specified when expression is set",
        ),
        (
            mappings("username: {expression: claims.email}"),
            "jwt[0].claimMappings.username.expression: Invalid value: \"claims.email\": claims.email_verified must be used",
        ),
        (
            mappings("username: {expression: 'claims.'}"),
            "jwt[0].claimMappings.username.expression: Invalid value: \"claims.\": compilation failed: ERROR",
        ),
        (
            mappings(&format!("{name}, groups: {{expression: user.x}}")),
            "jwt[0].claimMappings.groups.expression: ",
        ),
        (
            mappings(&format!("{name}, uid: {{claim: a, expression: b}}")),
            "jwt[0].claimMappings.uid: Invalid value",
        ),
        (
            mappings(&format!("{name}, extra: [{{key: foo, valueExpression: \"'a'\"}}]")),
            "jwt[0].claimMappings.extra[0].key: Invalid value: \"foo\": must be a domain-prefixed path",
        ),
        (
            mappings(&format!("{name}, extra: [{{key: a.k8s.io/x, valueExpression: \"'a'\"}}]")),
            "are reserved for Kubernetes use",
        ),
        (
            mappings(&format!("{name}, extra: [{{key: a.example/X, valueExpression: \"'a'\"}}]")),
            "jwt[0].claimMappings.extra[0].key: Invalid value: \"a.example/X\": must be lowercase",
        ),
        (
            mappings(&format!("{name}, extra: [{{key: a.example/x}}]")),
            "jwt[0].claimMappings.extra[0].valueExpression: Required value",
        ),
        (rules("{}"), "jwt[0].claimValidationRules[0]: Required value: claim or expression is required"),
        (rules("{claim: a, message: b}"), "jwt[0].claimValidationRules[0].message: Invalid value: \"b\""),
        (rules("{claim: a}, {claim: a}"), "jwt[0].claimValidationRules[1].claim: Duplicate value: \"a\""),
        (
            rules("{expression: claims.a}"),
            "jwt[0].claimValidationRules[0].expression: Invalid value: \"claims.a\": must evaluate to bool",
        ),
        (
            rules("{expression: 'true', requiredValue: x}"),
            "jwt[0].claimValidationRules[0].requiredValue: Invalid value",
        ),
        (users("{}"), "jwt[0].userValidationRules[0].expression: Required value"),
        (
            users("{expression: 'true'}, {expression: 'true'}"),
            "jwt[0].userValidationRules[1].expression: Duplicate value: \"true\"",
        ),
        (users("{expression: 'user.nothing'}"), "undefined field 'nothing'"),
        ("{odd: 1}".to_owned(), "unknown field `odd`"),
    ] {
        let error = parsed(&jwt, "").unwrap_err();
        assert!(error.contains(wanted), "{jwt}: {error}");
    }
    for verified in [
        mappings("username: {expression: \"claims.?email_verified.orValue(false) ? claims.email : ''\"}"),
        jwt(
            ISSUER,
            "claimMappings: {username: {expression: claims.email}}",
            ", claimValidationRules: [{expression: 'claims.email_verified == true'}]",
        ),
    ] {
        parsed(&verified, "").unwrap();
    }
    assert!(parse(b"apiVersion: v1\nkind: AuthenticationConfiguration\n").is_err());
}

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::*;

fn foos(schema: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    default("v1", &mut object);
    prepare_create(&mut object);
    object
}

fn texts(errors: Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// What is wrong with a definition after a change of it.
fn changed(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut object = foos(json!({"type": "object"}));
    change(&mut object);
    texts(validate_create(&object))
}

const AT: &str = "spec.versions[0].schema.openAPIV3Schema";

/// What is wrong with a schema, below its path.
fn wrong(schema: Value) -> Vec<String> {
    let cut = |text: String| text.strip_prefix(AT).map_or_else(|| text.clone(), str::to_owned);
    texts(validate_create(&foos(schema))).into_iter().map(cut).collect()
}

/// The same for a property of an object.
fn wrong_property(schema: Value) -> Vec<String> {
    let found = wrong(json!({"type": "object", "properties": {"a": schema}}));
    found.into_iter().map(|text| text.replace(".properties[a]", "")).collect()
}

#[test]
fn a_definition_is_completed() {
    let object = foos(json!({"type": "object"}));
    assert_eq!(
        object["spec"]["names"],
        json!({"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"})
    );
    assert_eq!(object["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(object["status"], json!({"storedVersions": ["v1"]}));
    assert_eq!(texts(validate_create(&object)), [""; 0]);
}

#[test]
fn a_new_storage_version_is_noted() {
    let old = foos(json!({"type": "object"}));
    let mut new = old.clone();
    new["spec"]["versions"][0]["storage"] = false.into();
    let version = json!({"name": "v2", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "description": "new"}}});
    new["spec"]["versions"].as_array_mut().unwrap().push(version);
    prepare_update(&mut new, &old);
    assert_eq!(
        (&new["status"]["storedVersions"], &new["metadata"]["generation"]),
        (&json!(["v1", "v2"]), &json!(2))
    );
    assert_eq!(texts(validate_update(&new, &old)), [""; 0]);
    new["spec"]["versions"].as_array_mut().unwrap().remove(0);
    let told = texts(validate_update(&new, &old));
    assert!(
        told[0].starts_with("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions"),
        "{told:?}"
    );
}

#[test]
fn names_and_versions_follow_rules() {
    let label = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                 alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', \
                 regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
    type Case = (fn(&mut Value), String);
    let cases: [Case; 10] = [
        (|o| o["metadata"]["name"] = "x".into(), "metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group".into()),
        (|o| o["spec"]["scope"] = "Everywhere".into(), "spec.scope: Unsupported value: \"Everywhere\": supported values: \"Cluster\", \"Namespaced\"".into()),
        (|o| o["spec"]["names"]["listKind"] = "Foo".into(), "spec.names.listKind: Invalid value: \"Foo\": kind and listKind may not be the same".into()),
        (|o| o["spec"]["names"]["kind"] = "".into(), "spec.names.kind: Required value".into()),
        (|o| o["spec"]["names"]["shortNames"] = json!(["A"]), format!("spec.names.shortNames[0]: Invalid value: \"A\": {label}")),
        (|o| o["spec"]["versions"][0]["name"] = "V".into(), format!("spec.versions[0].name: Invalid value: \"V\": {label}")),
        (|o| o["spec"]["versions"][0]["deprecationWarning"] = "x".into(), "spec.versions[0].deprecationWarning: Invalid value: \"x\": can only be set for deprecated versions".into()),
        (|o| o["spec"]["versions"][0]["schema"] = Value::Null, "spec.versions[0].schema.openAPIV3Schema: Required value".into()),
        (|o| o["spec"]["preserveUnknownFields"] = true.into(), "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead".into()),
        (|o| o["spec"]["conversion"]["strategy"] = "Webhook".into(), "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook".into()),
    ];
    for (change, message) in cases {
        let told = changed(change);
        assert!(told.contains(&message), "{message} is not in {told:?}");
    }
    let told = changed(|o| o["spec"]["versions"][0]["storage"] = false.into());
    assert!(told[0].contains("must have exactly one version marked as storage version"), "{told:?}");
    let told = changed(|o| {
        o["spec"]["group"] = "x.k8s.io".into();
        o["metadata"]["name"] = "foos.x.k8s.io".into();
    });
    assert!(
        told[0].starts_with("metadata.annotations[api-approved.kubernetes.io]: Required value"),
        "{told:?}"
    );
}

#[test]
fn a_schema_is_structural() {
    for (schema, errors) in [
        (json!({}), vec![".type: Required value: must not be empty for specified object fields"]),
        (json!({"type": "array"}), vec![".items: Required value: must be specified"]),
        (
            json!({"type": "object", "properties": {"x": {"type": "string"}}, "allOf": [{"properties": {"x": {"type": "string"}}}]}),
            vec![".allOf[0].properties[x].type: Forbidden: must be empty to be structural"],
        ),
        (
            json!({"type": "object", "not": {"nullable": true}}),
            vec![".not.nullable: Forbidden: must be false to be structural"],
        ),
        (
            json!({"type": "string", "x-kubernetes-embedded-resource": true}),
            vec![
                ".properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
                ".type: Invalid value: \"string\": must be object if x-kubernetes-embedded-resource is true",
            ],
        ),
        (json!({"type": "string", "pattern": "("}), vec![]),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            vec!["fine"],
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}]}),
            vec!["fine"],
        ),
        (
            json!({"type": "nonsense"}),
            vec![
                ".type: Unsupported value: \"nonsense\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
            ],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}, "properties": {"x": {"type": "string"}}}),
            vec![
                ".additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            ],
        ),
        (
            json!({"type": "string", "uniqueItems": true}),
            vec![
                ".uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ],
        ),
        (
            json!({"type": "integer", "default": "x"}),
            vec![
                ".default: Invalid value: \"string\": spec.versions[0].schema.openAPIV3Schema.default in body must be of type integer: \"string\"",
            ],
        ),
        (
            json!({"type": "object", "default": {"x": 1}}),
            vec![".default: Invalid value: {\"x\":1}: must not have unknown fields"],
        ),
        (
            json!({"type": "string", "x-kubernetes-list-type": "set"}),
            vec![".type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified"],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}}),
            vec![
                ".x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
            ],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}}}}),
            vec![
                ".items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ],
        ),
        (
            json!({"type": "string", "x-kubernetes-validations": [{"rule": " "}]}),
            vec![".x-kubernetes-validations[0].rule: Required value: rule is not specified"],
        ),
    ] {
        let told = wrong_property(schema.clone());
        match errors.as_slice() {
            ["fine"] => assert_eq!(told, [""; 0], "{schema}"),
            [] => assert_eq!(told.len(), 1, "{schema}: {told:?}"),
            errors => assert_eq!(told, errors, "{schema}"),
        }
    }
    assert_eq!(
        wrong(json!({"type": "object", "anyOf": [{"properties": {"x": {"minLength": 1}}}]})),
        [
            ".properties[x]: Required value: because it is defined in spec.versions[0].schema.openAPIV3Schema.anyOf[0].properties[x]"
        ]
    );
    assert_eq!(
        wrong(json!({"type": "string"})),
        [".type: Invalid value: \"string\": must be object at the root"]
    );
    assert_eq!(
        wrong(
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}})
        ),
        [
            ".properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"
        ]
    );
    assert_eq!(
        wrong(
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "pattern": "^a"}}}}})
        ),
        [""; 0]
    );
}

#[test]
fn a_schema_may_not_be_endlessly_deep() {
    let mut schema = json!({"type": "string"});
    for _ in 0..MAX_DEPTH + 1 {
        schema = json!({"type": "object", "properties": {"a": schema}});
    }
    assert!(wrong(schema).iter().any(|e| e.contains("must not be nested deeper than 100 schemas")));
}

#[test]
fn established_names_stay() {
    let mut old = foos(json!({"type": "object"}));
    let rename = |object: &Value| {
        let mut new = object.clone();
        new["spec"]["names"]["kind"] = "Bar".into();
        new
    };
    assert_eq!(texts(validate_update(&rename(&old), &old)), [""; 0]);
    set_condition(&mut old, ["Established", "True", "R", "m"], "2026-01-01T00:00:00Z");
    assert_eq!(
        texts(validate_update(&rename(&old), &old)),
        ["spec.names.kind: Invalid value: \"Bar\": field is immutable"]
    );
}

#[test]
fn a_condition_keeps_the_time_of_its_status() {
    let mut object = json!({"metadata": {"generation": 3}});
    set_condition(&mut object, ["A", "True", "R", "m"], "2026-01-01T00:00:00Z");
    set_condition(&mut object, ["A", "True", "S", "m"], "2026-01-02T00:00:00Z");
    let condition = &object["status"]["conditions"][0];
    assert_eq!(
        (&condition["lastTransitionTime"], &condition["reason"]),
        (&json!("2026-01-01T00:00:00Z"), &json!("S"))
    );
    set_condition(&mut object, ["A", "False", "S", "m"], "2026-01-03T00:00:00Z");
    assert_eq!(object["status"]["conditions"][0]["lastTransitionTime"], "2026-01-03T00:00:00Z");
    assert!(!is_true(&object, "A"));
}

#[test]
fn deletion_waits_for_objects() {
    let mut object = foos(json!({"type": "object"}));
    prepare_delete(&mut object, "2026-01-01T00:00:00Z");
    assert_eq!(object["metadata"]["finalizers"], json!([FINALIZER]));
    assert!(is_true(&object, "Terminating"));
}

#[test]
fn unknown_formats_are_told_once() {
    let old = foos(json!({"type": "object", "properties": {"a": {"type": "string", "format": "odd"}}}));
    let new = foos(json!({"type": "object", "properties": {
        "a": {"type": "string", "format": "odd"}, "b": {"type": "array", "items": {"type": "string", "format": "new"}},
        "c": {"type": "string", "format": "date-time"},
    }}));
    assert_eq!(warnings(&new, &old), ["unrecognized format \"new\""]);
}

fn definition() -> Value {
    foos(json!({"type": "object"}))
}

fn certificate() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem()
}

fn called(pem: &str) -> Value {
    let mut object = definition();
    object["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://x.example/y", "caBundle": BASE64_STANDARD.encode(pem)}}});
    object
}

fn established(mut object: Value) -> Value {
    set_condition(&mut object, ["Established", "True", "InitialNamesAccepted", ""], "2026-01-01T00:00:00Z");
    object
}

#[test]
fn authorities_of_webhooks_are_certificates_once_the_kind_is_served() {
    let (good, block) =
        (certificate(), |body: &str| format!("-----BEGIN {body}-----\nMAA=\n-----END {body}-----\n"));
    let wrong = |pem: &str, why: &str| {
        format!(
            "spec.conversion.webhookClientConfig.caBundle: Invalid value: {:?}: unable to load root certificates: {why}",
            BASE64_STANDARD.encode(pem)
        )
    };
    for (pem, why) in [
        ("words".to_owned(), "unable to parse bytes as PEM block"),
        (block("CERTIFICATE"), "failed to parse certificate: x509: malformed certificate"),
        (block("PRIVATE KEY"), "no valid certificate authority data seen"),
    ] {
        let bad = called(&pem);
        assert_eq!(texts(validate_create(&bad)), [""; 0], "nobody serves it yet");
        assert_eq!(unservable(&bad).unwrap()[0], "InvalidCABundle");
        assert_eq!(texts(validate_update(&bad, &definition())), [""; 0], "nor now");
        assert_eq!(texts(validate_update(&bad, &established(called(&good)))), [wrong(&pem, why)]);
        assert_eq!(
            texts(validate_update(&bad, &established(bad.clone()))),
            [""; 0],
            "it was no better before"
        );
    }
    assert!(unservable(&called(&good)).is_none() && unservable(&definition()).is_none());
    let two = block("CERTIFICATE") + &good;
    assert_eq!(texts(validate_update(&called(&two), &established(called(&good)))), [""; 0]);
}

#[test]
fn the_webhook_is_called_as_others_are() {
    let told = |config: Value| {
        let mut object = called("");
        object["spec"]["conversion"]["webhook"]["clientConfig"] = config;
        texts(validate_create(&object))
    };
    let at = "spec.conversion.webhookClientConfig";
    assert_eq!(
        told(json!({"url": "http://u@x/y?z#f"})),
        [
            format!(
                "{at}.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]"
            ),
            format!("{at}.url: Invalid value: \"u\": user information is not permitted in the URL"),
            format!("{at}.url: Invalid value: \"f\": fragments are not permitted in the URL"),
            format!("{at}.url: Invalid value: \"z\": query parameters are not permitted in the URL"),
        ]
    );
    assert_eq!(
        told(json!({"service": {"name": "s", "path": "x//", "port": 0}})),
        [
            format!("{at}.service.name: Required value"),
            format!(
                "{at}.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive"
            ),
            format!("{at}.service.path: Invalid value: \"x//\": must start with a '/'"),
        ],
        "upstream takes namespace and name for each other"
    );
}

fn condition(object: &Value, kind: &str) -> Option<[String; 3]> {
    let found = meta::items(object, &["status", "conditions"]).iter().find(|c| c["type"] == kind)?;
    Some(["status", "reason", "message"].map(|field| meta::text(found, &[field]).to_owned()))
}

#[test]
fn it_is_told_what_is_not_structural() {
    let mut object = definition();
    tell(&mut object, "2026-01-01T00:00:00Z");
    assert_eq!(condition(&object, "NonStructuralSchema"), None);
    object["spec"]["preserveUnknownFields"] = true.into();
    object["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({"properties": {"x": {"type": "integer"}}});
    tell(&mut object, "2026-01-01T00:00:00Z");
    let [status, reason, message] = condition(&object, "NonStructuralSchema").unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Violations"));
    assert_eq!(
        message,
        "[spec.preserveUnknownFields: Invalid value: true: must be false, \
         spec.versions[0].schema.openAPIV3Schema.type: Required value: must not be empty at the root]"
    );
    object = definition();
    tell(&mut object, "2026-01-01T00:00:00Z");
    assert_eq!(condition(&object, "NonStructuralSchema"), None, "it was mended");
}

#[test]
fn it_is_told_whether_its_group_was_approved() {
    let of = |annotation: Option<&str>| {
        let mut object = definition();
        object["spec"]["group"] = "x.k8s.io".into();
        object["metadata"]["name"] =
            format!("{}.x.k8s.io", object["spec"]["names"]["plural"].as_str().unwrap()).into();
        if let Some(text) = annotation {
            object["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": text});
        }
        object
    };
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let missing =
        format!("protected groups must have approval annotation \"api-approved.kubernetes.io\", {see}");
    let invalid = format!(
        "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason \
         starting with \"unapproved\", {see}"
    );
    for (annotation, status, reason, message, refused) in [
        (None, "False", "MissingAnnotation", missing.as_str(), true),
        (Some("yes"), "False", "InvalidAnnotation", invalid.as_str(), true),
        (
            Some("unapproved, a try"),
            "False",
            "UnapprovedAnnotation",
            "not approved: \"unapproved, a try\"",
            false,
        ),
        (Some("https://x.example/1"), "True", "ApprovedAnnotation", "approved in https://x.example/1", false),
    ] {
        let mut object = of(annotation);
        tell(&mut object, "2026-01-01T00:00:00Z");
        let told = condition(&object, "KubernetesAPIApprovalPolicyConformant").unwrap();
        assert_eq!(told, [status, reason, message].map(str::to_owned));
        assert_eq!(!texts(validate_create(&object)).is_empty(), refused, "{annotation:?}");
        assert_eq!(texts(validate_update(&object, &object)), [""; 0], "it was no better before");
        let approved = of(Some("http://y.example/"));
        assert_eq!(!texts(validate_update(&object, &approved)).is_empty(), refused, "{annotation:?}");
    }
    let mut users = definition();
    tell(&mut users, "2026-01-01T00:00:00Z");
    assert_eq!(condition(&users, "KubernetesAPIApprovalPolicyConformant"), None);
}

#[test]
fn sets_of_objects_are_doubted_when_they_are_new() {
    let mut object = definition();
    object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["x"] =
        json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}});
    assert_eq!(
        warnings(&object, &Value::Null),
        [
            "x-kubernetes-list-type: set for items of type \"object\" is not supported by server-side apply or CEL \
          validation rules"
        ]
    );
    assert_eq!(warnings(&object, &object), [""; 0]);
}

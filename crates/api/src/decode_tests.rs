use serde_json::json;

use super::*;

fn pod(body: &str, validation: FieldValidation) -> Result<Decoded, Status> {
    decode(&Target::builtin("", "v1", "Pod").unwrap(), body.as_bytes(), validation)
}

fn told(kind: (&str, &str, &str), body: &str) -> String {
    let target = Target::builtin(kind.0, kind.1, kind.2).unwrap();
    decode(&target, body.as_bytes(), FieldValidation::Strict).unwrap_err().message
}

const DEPLOYMENT: (&str, &str, &str) = ("apps", "v1", "Deployment");
const POD: (&str, &str, &str) = ("", "v1", "Pod");

#[test]
fn an_object_becomes_what_the_api_writes() {
    let body = r#"{"metadata": {"name": "a", "namespace": "", "creationTimestamp": null, "labels": {}},
        "spec": {"hostNetwork": false, "nodeSelector": {"a": null}, "terminationGracePeriodSeconds": 0,
                 "containers": [{"name": "c", "image": "i", "args": [], "stdin": false,
                                 "ports": [{"containerPort": 80, "hostPort": 0}],
                                 "resources": {"requests": {"cpu": 0.1, "memory": "1024Ki"}}}]}}"#;
    let read = pod(body, FieldValidation::Strict).unwrap();
    assert_eq!(read.warnings, Vec::<String>::new());
    assert_eq!(
        read.object,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
               "spec": {"nodeSelector": {"a": ""}, "terminationGracePeriodSeconds": 0,
                        "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}],
                                        "resources": {"requests": {"cpu": "100m", "memory": "1Mi"}}}]},
               "status": {}})
    );
}

#[test]
fn fields_of_structs_that_go_embeds_become_what_the_api_writes_too() {
    let body = r#"{"spec": {"containers": [], "ephemeralContainers":
        [{"name": "d", "image": "", "args": [], "stdin": false, "targetContainerName": "",
          "envFrom": [{"configMapRef": {"name": ""}}]}]}}"#;
    let read = pod(body, FieldValidation::Strict).unwrap();
    assert_eq!(
        read.object["spec"]["ephemeralContainers"],
        json!([{"name": "d", "resources": {}, "envFrom": [{"configMapRef": {}}]}])
    );
}

#[test]
fn what_stands_twice_in_a_patch_is_told_by_its_path() {
    let told = repeated(
        br#"{"spec": {"a": 1, "a": {"b": [{"c": 1}, {"c": 1, "c": 2, "c": 3}]}}, "x": null, "x": 1.5}"#,
    );
    let problems =
        [r#"duplicate field "spec.a""#, r#"duplicate field "spec.a.b[1].c""#, r#"duplicate field "x""#];
    assert_eq!(told, problems);
    assert_eq!(repeated(br#"{"a": {"b": 1}, "b": [{"b": 1}, {"b": 1}]}"#), Vec::<String>::new());
    // What is no JSON is told by whoever reads it.
    assert_eq!(repeated(br#"{"a": 1, "a": "#), [r#"duplicate field "a""#]);

    let told = repeated_in_operations(
        br#"[{"op": "add", "path": "/a", "value": {"op": 1, "foo": 1}},
             {"op": "add", "op": "test", "foo": {"a": 1, "a": 2}, "value": {"a": 1, "a": 2}}]"#,
    );
    let problems = [
        r#"json patch duplicate field "[1].op""#,
        r#"json patch unknown field "[1].foo""#,
        r#"json patch duplicate field "[1].value.a""#,
    ];
    assert_eq!(told, problems);
}

#[test]
fn unknown_and_duplicate_fields_are_told_or_pruned() {
    let body = r#"{"apiVersion": "v1", "kind": "Pod", "spec": {"foo": {"a": [1]}, "hostname": "a", "hostname": "b",
        "containers": [{"name": "c"}, {"name": "d", "bar": 1}]}, "metadata": {"labels": {"a": "1", "a": "2"}}}"#;
    let warned = pod(body, FieldValidation::Warn).unwrap();
    let problems = [
        r#"unknown field "spec.foo""#,
        r#"duplicate field "spec.hostname""#,
        r#"unknown field "spec.containers[1].bar""#,
        r#"duplicate field "metadata.labels.a""#,
    ];
    assert_eq!(warned.warnings, problems);
    assert_eq!(warned.object["spec"]["hostname"], "b");
    assert!(warned.object["spec"].get("foo").is_none());
    assert_eq!(pod(body, FieldValidation::Ignore).unwrap().warnings, Vec::<String>::new());
    let strict = pod(body, FieldValidation::Strict).unwrap_err();
    assert_eq!(strict.code(), 400);
    assert_eq!(
        strict.message,
        format!(
            "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: {}",
            problems.join(", ")
        )
    );
}

#[test]
fn wrong_types_are_told_as_upstream_tells_them() {
    for (kind, body, why) in [
        (
            DEPLOYMENT,
            r#"{"spec": {"replicas": "3"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            POD,
            r#"{"spec": {"containers": [{"image": 5}]}}"#,
            "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string",
        ),
        (
            POD,
            r#"{"spec": {"containers": {}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            POD,
            r#"{"spec": {"hostNetwork": "yes"}}"#,
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        (
            POD,
            r#"{"metadata": {"labels": {"a": 1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            DEPLOYMENT,
            r#"{"spec": {"replicas": 3000000000}}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            r#"{"spec": {"replicas": 1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            POD,
            r#"{"spec": {"containers": [{"resources": {"limits": {"cpu": "1x"}}}]}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (("", "v1", "Secret"), r#"{"data": {"a": "%%%%"}}"#, "illegal base64 data at input byte 0"),
        (
            POD,
            r#"{"metadata": {"deletionTimestamp": "yesterday"}}"#,
            "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\"",
        ),
    ] {
        let (_, version, name) = kind;
        assert_eq!(
            told(kind, body),
            format!("{name} in version {version:?} cannot be handled as a {name}: {why}"),
            "{body}"
        );
    }
}

#[test]
fn an_object_is_what_it_says_it_is() {
    let service = r#"{"apiVersion": "v1", "kind": "Service", "spec": {"ports": 1}}"#;
    assert_eq!(
        told(POD, service),
        "Service in version \"v1\" cannot be handled as a Pod: converting (v1.Service) to (v1.Pod): unknown conversion"
    );
    assert_eq!(
        told(DEPLOYMENT, r#"{"apiVersion": "apps/v1beta1", "kind": "Deployment"}"#),
        "the API version in the data (apps/v1beta1) does not match the expected API version (apps/v1)"
    );
    assert!(told(POD, r#"{"kind": "Thing"}"#).contains("no kind \"Thing\" is registered for version \"v1\""));
}

#[test]
fn what_is_no_json_is_told() {
    assert!(told(POD, "").ends_with("(<empty>)"), "{}", told(POD, ""));
    let broken = told(POD, "{\"spec\": {");
    assert!(
        broken.starts_with(
            "the object provided is unrecognized (must be of type Pod): couldn't get version/kind"
        )
    );
    assert!(broken.ends_with("({\"spec\": {)"), "{broken}");
    assert!(told(POD, "[]").ends_with("json: cannot unmarshal array into Go value of type v1.Pod"));
    assert!(told(POD, "x").ends_with("(78)"));
    assert!(told(POD, "{} x").contains("trailing characters"));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!("{{\"metadata\": {{\"managedFields\": [{{\"fieldsV1\": {deep}}}]}}}}");
    assert!(told(POD, &body).contains("recursion limit"));
}

#[test]
fn times_and_bytes_are_made_canonical() {
    let target = Target::builtin("coordination.k8s.io", "v1", "Lease").unwrap();
    let body = r#"{"metadata": {"creationTimestamp": "2026-02-01T01:00:00.9+01:00"},
                   "spec": {"renewTime": "2026-02-01T00:00:00.123Z"}}"#;
    let lease = decode(&target, body.as_bytes(), FieldValidation::Strict).unwrap().object;
    assert_eq!(lease["metadata"]["creationTimestamp"], "2026-02-01T00:00:00Z");
    assert_eq!(lease["spec"]["renewTime"], "2026-02-01T00:00:00.123000Z");
    let target = Target::builtin("", "v1", "Secret").unwrap();
    let secret =
        decode(&target, br#"{"data": {"a": "aGV\nsbG8="}}"#, FieldValidation::Strict).unwrap().object;
    assert_eq!(secret["data"]["a"], "aGVsbG8=");
}

#[test]
fn a_tree_is_read_as_bytes_are() {
    let body = r#"{"metadata": {"name": "a"}, "spec": {"replicas": 1, "nonsense": 2, "selector": {}}}"#;
    let ty = Schema::of("apps", "v1", "Deployment").unwrap();
    let tree = serde_json::from_str(body).unwrap();
    let read = from_value(ty, tree).unwrap();
    assert_eq!(read, from_slice(ty, body.as_bytes()).unwrap());
    assert_eq!(read.1, ["unknown field \"spec.nonsense\""]);
    assert_eq!(read.0["spec"]["strategy"], json!({}));
    let twice = from_value(ty, Value::Object(read.0.clone())).unwrap();
    assert_eq!(twice.0, read.0);
}

#[test]
fn the_number_of_problems_is_bounded() {
    let fields: Vec<String> = (0..1000).map(|i| format!("\"x{i}\": 1")).collect();
    let body = format!("{{{}}}", fields.join(","));
    assert_eq!(pod(&body, FieldValidation::Warn).unwrap().warnings.len(), MAX_PROBLEMS);
}

#[test]
fn what_is_one_of_two_things_is_read_as_go_reads_it() {
    let target = Target::builtin("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
    let read = |schema: Value| {
        let tree = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}});
        let body = tree.to_string();
        decode(&target, body.as_bytes(), FieldValidation::Strict).map(|read| {
            read.object.pointer("/spec/versions/0/schema/openAPIV3Schema").cloned().unwrap_or_default()
        })
    };
    let kept = json!({"additionalProperties": false, "additionalItems": {"type": "string"},
        "items": [{"type": "object"}], "dependencies": {"a": ["b"], "c": {"type": "string"}}});
    assert_eq!(read(kept.clone()), Ok(kept));
    assert_eq!(
        read(json!({"items": {"type": "string", "odd": 1}})),
        Ok(json!({"items": {"type": "string"}}))
    );
    assert_eq!(read(json!({"items": "x"})), Ok(json!({})));
    for wrong in [json!([]), json!("x"), json!(1)] {
        let error = read(json!({"additionalProperties": wrong})).unwrap_err();
        assert!(error.message.ends_with("boolean or JSON schema expected"), "{}", error.message);
    }
    let error = read(json!({"items": {"type": 1}})).unwrap_err();
    assert!(error.message.contains("cannot unmarshal number into Go struct field"), "{}", error.message);
}

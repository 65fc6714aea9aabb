use proptest::{prelude::*, test_runner::RngAlgorithm};
use serde_json::{Map, json};

use super::{
    table::{Field, Shape, Type},
    *,
};
use crate::schema::Schema;

/// Bodies that kubectl 1.37, a Go client, sent to a server, with what they say.
fn from_kubectl() -> Vec<(&'static [u8], Value)> {
    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!("fixtures/", $name, ".pb")).as_slice()
        };
    }
    vec![
        (
            fixture!("auth-can-i"),
            json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {},
                "spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}},
                "status": {"allowed": false},
            }),
        ),
        (
            fixture!("create-deployment"),
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "web", "labels": {"app": "web"}},
                "spec": {
                    "replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "strategy": {},
                    "template": {
                        "metadata": {"labels": {"app": "web"}},
                        "spec": {"containers": [{
                            "name": "nginx", "image": "nginx:1", "ports": [{"containerPort": 80}], "resources": {},
                        }]},
                    },
                },
                "status": {},
            }),
        ),
        (
            fixture!("create-service"),
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "labels": {"app": "s"}},
                "spec": {
                    "type": "NodePort", "selector": {"app": "s"},
                    "ports": [{"name": "80-http", "protocol": "TCP", "port": 80, "targetPort": "http"}],
                },
                "status": {"loadBalancer": {}},
            }),
        ),
        (
            fixture!("create-job"),
            json!({
                "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"},
                "spec": {"template": {"metadata": {}, "spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "j", "image": "busybox", "command": ["sleep", "1"], "resources": {}}],
                }}},
                "status": {},
            }),
        ),
        (
            fixture!("create-configmap"),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"a": "b"}}),
        ),
        (
            fixture!("create-secret"),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sec"}, "data": {"a": "Yg=="}}),
        ),
        (
            fixture!("create-role"),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"},
                "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}],
            }),
        ),
        (
            fixture!("create-quota"),
            json!({
                "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
                "spec": {"hard": {"cpu": "1", "pods": "2"}}, "status": {},
            }),
        ),
        (
            fixture!("create-token"),
            json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {},
                "spec": {"expirationSeconds": 600}, "status": {"token": ""},
            }),
        ),
        (
            fixture!("create-pdb"),
            json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "p"},
                "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}},
                "status": {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0},
            }),
        ),
        (
            fixture!("create-ingress"),
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "i"},
                "spec": {"rules": [{"host": "h", "http": {"paths": [{
                    "path": "/", "pathType": "Prefix",
                    "backend": {"service": {"name": "svc", "port": {"number": 80}}},
                }]}}]},
                "status": {"loadBalancer": {}},
            }),
        ),
        (
            fixture!("create-priorityclass"),
            json!({
                "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "pc"},
                "value": 5, "preemptionPolicy": "PreemptLowerPriority",
            }),
        ),
    ]
}

/// As the server reads it: decoded, then led by the schema.
fn read(body: &[u8]) -> Value {
    let tree = decode(body, ("", "")).unwrap();
    let (api_version, kind) = (tree["apiVersion"].as_str().unwrap(), tree["kind"].as_str().unwrap());
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let ty = Schema::of(group, version, kind).unwrap();
    let (object, problems) = crate::decode::from_value(ty, tree).unwrap();
    assert_eq!(problems, Vec::<String>::new());
    Value::Object(object)
}

#[test]
fn reads_what_a_go_client_writes() {
    for (body, expected) in from_kubectl() {
        assert_eq!(read(body), expected);
    }
}

#[test]
fn reads_back_what_it_writes() {
    for (body, _) in from_kubectl() {
        let object = decode(body, ("", "")).unwrap();
        assert_eq!(decode(&encode(&object).unwrap(), ("", "")).unwrap(), object);
    }
}

#[test]
fn null_in_a_map_of_bytes_is_no_bytes() {
    let target = crate::decode::Target::builtin("", "v1", "ConfigMap").unwrap();
    let body = br#"{"metadata": {"name": "a"}, "binaryData": {"k": null}}"#;
    let read = crate::decode::decode(&target, body, crate::decode::FieldValidation::Strict).unwrap();
    assert_eq!(read.object["binaryData"], json!({"k": ""}));
    let crossed = decode(&encode(&read.object).unwrap(), ("", "")).unwrap();
    assert_eq!(crossed["binaryData"], json!({"k": ""}));
}

#[test]
fn whole_doubles_have_no_fraction() {
    let bounds = |text: &str| {
        let target =
            crate::decode::Target::builtin("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
        let body = format!(
            r#"{{"spec": {{"versions": [{{"schema": {{"openAPIV3Schema": {{"maximum": {text}}}}}}}]}}}}"#
        );
        crate::decode::decode(&target, body.as_bytes(), crate::decode::FieldValidation::Strict)
            .unwrap()
            .object
    };
    for (said, written) in [("-1", "-1"), ("-1.0", "-1"), ("1.5", "1.5"), ("1e300", "1e+300"), ("3e2", "300")]
    {
        let read = bounds(said);
        let crossed = decode(&encode(&read).unwrap(), ("", "")).unwrap();
        for object in [&read, &crossed] {
            let maximum = &object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["maximum"];
            assert_eq!(maximum.to_string(), written, "{said}");
        }
    }
}

#[test]
fn zeros_stay_where_they_mean_something() {
    // As Go writes a Deployment with `replicas: 0`, a pointer, and a port whose `hostPort` is no pointer.
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {
        "replicas": 0, "paused": false,
        "template": {"spec": {"containers": [{"name": "a", "image": "", "stdin": false,
            "ports": [{"name": "", "hostPort": 0, "containerPort": 0, "protocol": ""}]}]}},
    }});
    let object = read(&encode(&object).unwrap());
    assert_eq!(object["spec"]["replicas"], 0);
    assert_eq!(object["spec"].get("paused"), None);
    let container = json!({"name": "a", "ports": [{"containerPort": 0}], "resources": {}});
    let read = object["spec"]["template"]["spec"]["containers"][0].as_object().unwrap();
    for (key, value) in container.as_object().unwrap().iter().filter(|(key, _)| *key != "resources") {
        assert_eq!(read.get(key), Some(value));
    }
    assert_eq!(read.get("image"), None);
    assert_eq!(read.get("stdin"), None);
}

#[test]
fn every_shape_of_value_crosses() {
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "p", "creationTimestamp": "2026-01-02T03:04:05Z", "generation": -1, "labels": {"a": "", "b": "c"},
            "managedFields": [{"manager": "m", "time": "1969-12-31T23:59:58Z", "fieldsV1": {"f:spec": {".": {}}}}],
            "finalizers": ["x", "y"],
        },
        "spec": {
            "volumes": [
                {"name": "v", "emptyDir": {"sizeLimit": "1Gi"}},
                {"name": "w", "configMap": {"name": "c", "items": [{"key": "k", "path": "p", "mode": 420}]}},
            ],
            "containers": [{
                "name": "c", "resources": {"limits": {"cpu": "100m"}},
                "livenessProbe": {"httpGet": {"port": "http", "path": "/"}, "periodSeconds": 5},
                "readinessProbe": {"tcpSocket": {"port": -80}},
                "envFrom": [{"prefix": "P", "configMapRef": {"name": "c", "optional": true}}],
            }],
            "ephemeralContainers": [{"name": "e", "targetContainerName": "c"}],
        },
    });
    // What is embedded on the wire comes back as an object's own fields.
    assert_eq!(decode(&encode(&object).unwrap(), ("", "")).unwrap(), object);
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"renewTime": "2026-01-02T03:04:05.000600Z"}});
    assert_eq!(decode(&encode(&lease).unwrap(), ("", "")).unwrap(), lease);
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "status": {"user": {"extra": {"k": ["a", "b"], "none": []}}}});
    assert_eq!(decode(&encode(&review).unwrap(), ("", "")).unwrap(), review);
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": {"versions": [{"schema": {
        "openAPIV3Schema": {
            "properties": {"a": {"items": {"type": "string", "$ref": "#"}, "additionalProperties": false, "default": {"x": [1, null]}, "maximum": 1.5},
                "b": {"additionalProperties": {"type": "integer"}, "items": [{"type": "a"}, {"type": "b"}], "x-kubernetes-list-type": "map"}},
            "dependencies": {"d": ["x"], "e": {"type": "f"}},
        },
    }}]}});
    assert_eq!(decode(&encode(&crd).unwrap(), ("", "")).unwrap(), crd);
}

#[test]
fn options_are_spoken_in_any_version() {
    let options =
        json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"});
    assert_eq!(decode(&encode(&options).unwrap(), ("", "")).unwrap(), options);
    let mut body = MAGIC.to_vec();
    body.extend_from_slice(&[0x12, 2, 0x08, 5]);
    assert_eq!(
        decode(&body, ("v1", "DeleteOptions")).unwrap(),
        json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 5})
    );
}

#[test]
fn watch_events_are_framed() {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let frame = encode_watch_event("ADDED", &object).unwrap();
    let (length, event) = frame.split_at(4);
    assert_eq!(length, (event.len() as u32).to_be_bytes());
    // WatchEvent, read as if it were in an envelope of its own.
    let mut body = MAGIC.to_vec();
    body.extend_from_slice(&[0x12, event.len() as u8]);
    body.extend_from_slice(event);
    assert_eq!(
        decode(&body, ("v1", "WatchEvent")).unwrap(),
        json!({"apiVersion": "v1", "kind": "WatchEvent", "type": "ADDED", "object": object})
    );
}

#[test]
fn fields_of_other_versions_are_never_lost() {
    let read = |raw: &[u8]| {
        let mut body = MAGIC.to_vec();
        body.extend_from_slice(&[0x12, raw.len() as u8]);
        body.extend_from_slice(raw);
        decode(&body, ("v1", "Pod"))
    };
    // Of a Pod: field 127 unset, and metadata with name "a" and an empty clusterName, which went with 1.24.
    assert_eq!(
        read(&[0xf8, 0x07, 0, 0x0a, 5, 0x0a, 1, b'a', 0x7a, 0]).unwrap(),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}})
    );
    let unknown = |message, number| Err(Error::UnknownField { message, number });
    assert_eq!(read(&[0xf8, 0x07, 1]), unknown("core.v1.Pod", 127));
    assert_eq!(read(&[0x0a, 3, 0x7a, 1, b'c']), unknown("meta.v1.ObjectMeta", 15));
    assert_eq!(read(&[0xfd, 0x07, 0, 0, 0, 1]), unknown("core.v1.Pod", 127));
    assert_eq!(Status::from(read(&[0xf8, 0x07, 1]).unwrap_err()).code(), 400);
}

#[test]
fn broken_bodies_have_their_status() {
    let with = |raw: &[u8]| {
        let mut body = MAGIC.to_vec();
        body.extend_from_slice(&[0x12, raw.len() as u8]);
        body.extend_from_slice(raw);
        decode(&body, ("v1", "Pod"))
    };
    let cases = [
        (decode(b"{}", ("v1", "Pod")), 400, "does not begin with"),
        (
            decode(&encode(&json!({"apiVersion": "v1", "kind": "Pod"})).unwrap()[..9], ("", "")),
            400,
            "ends too early",
        ),
        (with(&[0x08, 1]), 400, "wrong wire type 0 for field metadata of core.v1.Pod"),
        (
            with(&[0x0a, 3, 0x0a, 1, 0xff]),
            400,
            "field name of meta.v1.ObjectMeta: string contains invalid UTF-8",
        ),
        (with(&[0x0a, 0x7f]), 400, "ends too early"),
        (with(&[0xff; 11]), 400, "ends too early"),
        (with(&[0x0b]), 400, "wrong wire type 3"),
        (decode(&[MAGIC.as_slice(), &[0x22, 1, b'x']].concat(), ("v1", "Pod")), 400, "which is not protobuf"),
        (decode(MAGIC, ("example.com/v1", "Thing")), 415, "Thing of example.com/v1 has no protobuf encoding"),
    ];
    for (result, code, message) in cases {
        let status = Status::from(result.unwrap_err());
        assert_eq!(status.code(), code, "{message}");
        assert!(status.message.contains(message), "{}", status.message);
    }
}

#[test]
fn nesting_is_bounded() {
    // JSONSchemaProps.not, again and again.
    let mut schema = Vec::new();
    for _ in 0..MAX_DEPTH + 1 {
        let mut outer = vec![0xe2, 0x01];
        let mut length = schema.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend(schema);
        schema = outer;
    }
    let body =
        [MAGIC.as_slice(), &[0x12, schema.len() as u8 & 0x7f | 0x80, (schema.len() >> 7) as u8], &schema]
            .concat();
    assert_eq!(decode(&body, ("apiextensions.k8s.io/v1", "JSONSchemaProps")), Err(Error::TooDeep));
}

#[test]
fn the_table_is_sound() {
    let table = Table::builtin();
    for (api_version, kind) in [
        ("v1", "Pod"),
        ("apps/v1", "DeploymentList"),
        ("apps/v1beta1", "Deployment"),
        ("v1", "Status"),
        ("internal.apiserver.k8s.io/v1alpha1", "StorageVersion"),
    ] {
        assert!(table.find(api_version, kind).is_some(), "{kind}");
    }
    // Every kind that has a message has numbers for all its fields but those that the schema got later.
    let pod = table.named("core.v1.PodSpec").unwrap();
    let spec = Schema::builtin().named("core.v1.PodSpec").unwrap().object().unwrap();
    for field in spec.fields() {
        assert!(pod.fields().iter().any(|f| f.name == field.name), "{}", field.name);
    }
}

/// A value for a field, made from random numbers.
fn any_value(field: &Field, message: MessageRef, random: &mut impl FnMut() -> u32, depth: u32) -> Value {
    match field.ty {
        Type::String => ["", "a", "ü"][random() as usize % 3].into(),
        Type::Bytes => ["", "AAEC"][random() as usize % 2].into(),
        Type::Int32 => (random() as i32).into(),
        Type::Int64 => ((i64::from(random()) << 32) - 5).into(),
        Type::Bool => random().is_multiple_of(2).into(),
        Type::Double => (f64::from(random()) / 3.0).into(),
        Type::Time => "2026-11-21T08:00:00Z".into(),
        Type::MicroTime => "1960-11-21T08:00:00.000001Z".into(),
        Type::Quantity => "1Ki".into(),
        Type::IntOrString => [json!(-7), json!("x"), json!("")][random() as usize % 3].clone(),
        Type::Raw => json!({"any": [random(), null]}),
        Type::Strings => [json!([]), json!(["a", ""])][random() as usize % 2].clone(),
        Type::SchemaOrArray => [json!({"type": "a"}), json!([{"type": "a"}])][random() as usize % 2].clone(),
        Type::SchemaOrBool => [json!({"type": "a"}), json!(false)][random() as usize % 2].clone(),
        Type::SchemaOrStrings => [json!({"type": "a"}), json!(["b"])][random() as usize % 2].clone(),
        Type::Message(index) => any_tree(message.other(index), random, depth + 1),
    }
}

/// As client-go writes a definition: each field that Go cannot leave out is there, also when it is empty.
#[test]
fn what_nobody_set_in_a_json_schema_is_not_read() {
    let definition = |schema: Value| {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": {
            "versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}})
    };
    let sent = definition(json!({
        "id": "", "$schema": "", "type": "object", "title": "", "exclusiveMaximum": false, "nullable": false,
        "externalDocs": {"description": "", "url": "a"},
        "properties": {"size": {
            "type": "integer", "format": "", "minimum": 0, "minLength": 0, "default": "", "uniqueItems": false,
            "x-kubernetes-int-or-string": false, "x-kubernetes-preserve-unknown-fields": false,
            "x-kubernetes-validations": [{"rule": "", "message": "", "fieldPath": ""}],
        }},
    }));
    let meant = definition(json!({
        "type": "object", "externalDocs": {"url": "a"},
        "properties": {"size": {
            "type": "integer", "minimum": 0, "minLength": 0, "default": "",
            "x-kubernetes-preserve-unknown-fields": false, "x-kubernetes-validations": [{"rule": ""}],
        }},
    }));
    assert_eq!(decode(&encode(&sent).unwrap(), ("", "")).unwrap(), meant);
}

fn any_tree(message: MessageRef, random: &mut impl FnMut() -> u32, depth: u32) -> Value {
    let mut tree = Map::new();
    for field in message.fields() {
        if !random().is_multiple_of(2 + 3 * depth) && field.shape != Shape::Embedded {
            continue;
        }
        let value = match field.shape {
            Shape::One => any_value(field, message, random, depth),
            Shape::Many => (0..=random() % 2).map(|_| any_value(field, message, random, depth)).collect(),
            Shape::Map => {
                let value = any_value(field, message, random, depth);
                Value::Object([(["", "key"][random() as usize % 2].to_owned(), value)].into_iter().collect())
            }
            Shape::Embedded => {
                let Value::Object(inner) = any_value(field, message, random, depth) else { continue };
                tree.extend(inner);
                continue;
            }
        };
        tree.insert(field.name.to_owned(), value);
    }
    Value::Object(tree)
}

proptest! {
    #[test]
    fn any_object_round_trips(seed: [u8; 32], kind in prop::sample::select(vec![
        ("v1", "Pod"), ("v1", "Node"), ("v1", "Service"), ("v1", "PersistentVolume"), ("apps/v1", "StatefulSet"),
        ("networking.k8s.io/v1", "Ingress"), ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
        ("authorization.k8s.io/v1", "SubjectAccessReview"), ("resource.k8s.io/v1", "ResourceClaim"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"), ("extensions/v1beta1", "Ingress"),
    ])) {
        let mut rng = proptest::test_runner::TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let message = Table::builtin().find(kind.0, kind.1).unwrap();
        let mut tree = any_tree(message, &mut || rng.next_u32(), 0);
        tree["apiVersion"] = kind.0.into();
        tree["kind"] = kind.1.into();
        let once = decode(&encode(&tree).unwrap(), ("", "")).unwrap();
        // What is empty in a JSON schema is not read.
        if kind.1 != "CustomResourceDefinition" {
            prop_assert_eq!(&once, &tree);
        }
        prop_assert_eq!(decode(&encode(&once).unwrap(), ("", "")).unwrap(), once);
    }

    #[test]
    fn damaged_bodies_never_panic(cut in 0..220usize, at in 0..220usize, byte: u8, which in 0..12usize) {
        let (body, _) = &from_kubectl()[which];
        let mut body = body.to_vec();
        body.truncate(cut.max(5));
        let at = at % body.len();
        body[at] = byte;
        if let Ok(tree) = decode(&body, ("v1", "Pod")) {
            prop_assert!(encode(&tree).is_ok());
        }
    }
}

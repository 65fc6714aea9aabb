use serde_json::json;

use super::*;

fn read(document: &Value) -> Result<Foreign, Unreadable> {
    Foreign::read(document.to_string().as_bytes(), "a.example.com", "v1")
}

fn texts(members: &Value) -> Texts {
    let mut texts = Texts::default();
    members.as_object().unwrap().iter().for_each(|(name, value)| texts.insert(name.clone(), value));
    texts
}

fn values(texts: &Texts) -> Value {
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    texts.0.iter().map(|(name, text)| (name.to_string(), value(text))).collect()
}

fn answers(definition: &str) -> Value {
    json!({"get": {"responses": {"200": {"description": "OK",
                                         "schema": {"$ref": format!("#/definitions/{definition}")}}}}})
}

/// A part with one path, and these definitions, of which the path names `Thing`.
fn part(path: &str, definitions: &Value) -> Arc<Foreign> {
    let paths = json!({format!("/apis/a.example.com/v1/{path}"): answers("Thing")});
    Arc::new(read(&json!({"swagger": "2.0", "paths": paths, "definitions": definitions})).unwrap())
}

#[test]
fn the_group_and_version_is_taken_with_what_follows() {
    let mut own = answers("Thing");
    own["get"]["parameters"] = json!([{"$ref": "#/parameters/pretty"}]);
    let document = json!({
        "swagger": "2.0", "info": {"title": "A"}, "securityDefinitions": {"x": {}},
        "paths": {
            "/apis/a.example.com/v1/": own,
            "/apis/a.example.com/v1beta1/things": answers("Beta"),
            "/apis/a.example.com/v1": answers("Beta"),
            "/version/": answers("Beta"),
        },
        "definitions": {
            "Thing": {"properties": {"part": {"$ref": "#/definitions/Part"}}},
            "Part": {"items": {"$ref": "#/definitions/Thing"}, "allOf": [{"$ref": "#/definitions/Last"}]},
            "Last": {"type": "string"},
            "Beta": {"type": "string"},
        },
        "parameters": {"pretty": {"in": "query", "name": "pretty", "type": "string"}},
    });
    let read = read(&document).unwrap();
    let mut wanted = answers("Thing");
    wanted["get"]["parameters"] = json!([document["parameters"]["pretty"]]);
    assert_eq!(values(&read.paths), json!({"/apis/a.example.com/v1/": wanted}));
    let mut wanted = document["definitions"].clone();
    wanted.as_object_mut().unwrap().remove("Beta");
    assert_eq!(values(&read.definitions), wanted);
}

#[test]
fn what_nobody_could_read_is_not_taken() {
    let with = |item: Value, definitions: Value| json!({"swagger": "2.0", "paths": {"/apis/a.example.com/v1/": item}, "definitions": definitions});
    let cases = [
        (json!([]), r#"it is of version """#),
        (json!(7), "it is no document"),
        (json!({"swagger": "2.0", "paths": []}), "it is no document"),
        (json!({"openapi": "3.0.0"}), r#"it is of version """#),
        (with(json!([]), json!({})), "/apis/a.example.com/v1/: its \"object\""),
        (with(answers("Thing"), json!({})), r#"it refers to "Thing""#),
        (with(answers("Thing"), json!({"Thing": {"type": 7}})), r#"Thing: its "type""#),
        (with(json!({"parameters": [{"$ref": "#/parameters/p"}]}), json!({})), r#"it refers to "p""#),
        (
            with(json!({"parameters": [{"$ref": "#/definitions/p"}]}), json!({})),
            "/apis/a.example.com/v1/: its",
        ),
    ];
    for (document, why) in cases {
        let error = read(&document).unwrap_err().to_string();
        assert!(error.starts_with(why), "{document}: {error}");
    }
    for text in ["", "{", "\u{feff}{}", "not found"] {
        assert!(Foreign::read(text.as_bytes(), "a.example.com", "v1").is_err(), "{text}");
    }
}

#[test]
fn no_document_takes_more_than_its_room() {
    let long = "x".repeat(MAX_KEPT / 8);
    let shared = json!({"in": "query", "name": long});
    let lists = vec![json!({"$ref": "#/parameters/p"}); 9];
    let document = json!({"swagger": "2.0", "parameters": {"p": shared},
                          "paths": {"/apis/a.example.com/v1/": {"parameters": lists}}});
    assert!(matches!(read(&document), Err(Unreadable::TooLong)));
    let definitions: serde_json::Map<_, _> =
        (0..9).map(|n| (format!("D{n}"), json!({"description": long}))).collect();
    let item = json!({"get": {"responses": (0..9).map(|n| {
        (n.to_string(), json!({"description": "", "schema": {"$ref": format!("#/definitions/D{n}")}}))
    }).collect::<Value>()}});
    let document = json!({"swagger": "2.0", "definitions": definitions,
                          "paths": {"/apis/a.example.com/v1/": item}});
    assert!(matches!(read(&document), Err(Unreadable::TooLong)));
    let many: Value = (0..=MAX_MEMBERS).map(|n| (n.to_string(), json!({}))).collect();
    assert!(matches!(read(&json!({"swagger": "2.0", "definitions": many})), Err(Unreadable::Json(_))));
}

#[test]
fn a_definition_of_a_known_name_gets_another() {
    let own = (
        texts(&json!({"/apis/a.example.com/v1/mine": {}})),
        texts(&json!({"Thing": {"type": "string"}, "Same": {"format": "f"}})),
    );
    let definitions = json!({
        "Thing": {"properties": {"a": {"$ref": "#/definitions/Thing"}, "b": {"$ref": "#/definitions/Same"},
                                 "c": {"$ref": "#/definitions/Thing_v2"}}},
        "Same": {"format": "f"},
        "Thing_v2": {"type": "number"},
    });
    let more = json!({"Thing": {"type": "boolean"}});
    let others = [part("mine", &more), part("one", &definitions), part("two", &more), part("three", &more)];
    let (paths, schemas) = added(&own, &others).unwrap();
    assert_eq!(
        values(&paths),
        json!({
            "/apis/a.example.com/v1/one": answers("Thing_v3"),
            "/apis/a.example.com/v1/two": answers("Thing_v4"),
            "/apis/a.example.com/v1/three": answers("Thing_v4"),
        })
    );
    assert_eq!(
        values(&schemas),
        json!({
            "Thing_v2": {"type": "number"},
            "Thing_v3": {"properties": {"a": {"$ref": "#/definitions/Thing_v3"}, "b": {"$ref": "#/definitions/Same"},
                                        "c": {"$ref": "#/definitions/Thing_v2"}}},
            "Thing_v4": {"type": "boolean"},
        })
    );
}

#[test]
fn one_definition_is_of_the_kinds_of_all() {
    let kind = |group: &str| json!({"group": group, "version": "v1", "kind": "Thing"});
    let thing = |kinds: Vec<Value>| json!({"Thing": {"type": "object", KINDS: kinds}});
    let own = (Texts::default(), texts(&thing(vec![kind("b"), kind("z")])));
    let others = [part("one", &thing(vec![kind("z"), kind("a")])), part("two", &thing(vec![kind("c")]))];
    let (_, schemas) = added(&own, &others).unwrap();
    assert_eq!(values(&schemas), thing(vec![kind("a"), kind("b"), kind("c"), kind("z")]));
    let (_, schemas) = added(&own, &[part("one", &thing(vec![kind("z"), json!("no kind")]))]).unwrap();
    assert_eq!(values(&schemas), json!({}));
}

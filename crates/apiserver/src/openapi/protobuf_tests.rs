use serde_json::json;

use super::*;

#[test]
fn lengths_and_numbers_are_written_as_varints() {
    let mut out = Vec::new();
    field(&mut out, 31, &[7; 300]);
    assert_eq!(out[..4], [0xfa, 0x01, 0xac, 0x02]);
    assert_eq!(out.len(), 304);
}

#[test]
fn schemas_have_gnostics_fields() {
    let cases: [(Value, &[u8]); 13] = [
        (json!({"$ref": "#/a"}), b"\x0a\x03#/a"),
        (json!({"description": "d"}), b"\x22\x01d"),
        (json!({"default": []}), b"\x2a\x04\x12\x02[]"),
        (json!({"required": ["a", "b"]}), b"\x9a\x01\x01a\x9a\x01\x01b"),
        (json!({"type": "string"}), b"\xb2\x01\x08\x0a\x06string"),
        (json!({"items": {"format": "f"}}), b"\xba\x01\x05\x0a\x03\x12\x01f"),
        (json!({"properties": {"p": {"format": "f"}}}), b"\xca\x01\x0a\x0a\x08\x0a\x01p\x12\x03\x12\x01f"),
        (json!({"type": ["a", "b"]}), b"\xb2\x01\x06\x0a\x01a\x0a\x01b"),
        (json!({"additionalProperties": {"format": "f"}}), b"\xaa\x01\x05\x0a\x03\x12\x01f"),
        (json!({"additionalProperties": true}), b"\xaa\x01\x02\x10\x01"),
        (json!({"maximum": 1.5, "maxLength": 300}), b"\x39\0\0\0\0\0\0\xf8\x3f\x58\xac\x02"),
        (json!({"enum": ["a", 1]}), b"\xa2\x01\x05\x12\x03\"a\"\xa2\x01\x03\x12\x011"),
        (json!({"x-a": [1]}), b"\xfa\x01\x0c\x0a\x03x-a\x12\x05\x12\x03[1]"),
    ];
    for (json, wanted) in cases {
        assert_eq!(SCHEMA.encode(&json), wanted, "{json}");
    }
}

#[test]
fn a_parameter_is_the_message_of_its_place() {
    let cases: [(Value, &[u8]); 3] = [
        (json!({"in": "body", "required": true}), b"\x4a\x0c\x0a\x0a\x0a\x08\x1a\x04body\x20\x01"),
        (json!({"in": "query", "name": "q"}), b"\x4a\x10\x0a\x0e\x12\x0c\x1a\x0a\x12\x05query\x22\x01q"),
        (json!({"in": "path", "type": "t"}), b"\x4a\x0f\x0a\x0d\x12\x0b\x22\x09\x12\x04path\x2a\x01t"),
    ];
    for (parameter, wanted) in cases {
        assert_eq!(PATH.encode(&json!({"parameters": [parameter]})), wanted, "{parameter}");
    }
}

#[test]
fn a_document_has_a_head_paths_and_definitions() {
    let texts = |name: &str, value: &Value| {
        let mut texts = Texts::default();
        texts.insert(name.to_owned(), value);
        texts
    };
    let path = json!({"get": {"responses": {"200": {"description": "OK"}}}});
    let info = json!({"title": "T", "version": "v"});
    let (paths, schemas) =
        (paths(&texts("/p", &path)).unwrap(), definitions(&texts("n", &json!({}))).unwrap());
    let document = document(&info, &paths.joined(), &schemas.joined());
    let wanted = b"\x0a\x032.0\x12\x06\x0a\x01T\x12\x01v\
        \x42\x1b\x12\x19\x0a\x02/p\x12\x13\x12\x11\x4a\x0f\x0a\x0d\x0a\x03200\x12\x06\x0a\x04\x0a\x02OK\
        \x4a\x07\x0a\x05\x0a\x01n\x12\x00";
    assert_eq!(document, wanted);
}

#[test]
fn what_clients_could_not_read_is_found() {
    let cases = [
        (json!([]), "object"),
        (json!({"description": ["a", "b"]}), "description"),
        (json!({"required": "a"}), "required"),
        (json!({"properties": {"p": {"properties": []}}}), "properties"),
        (json!({"properties": {"p": true}}), "object"),
        (json!({"items": [{"type": 1}]}), "type"),
        (json!({"maxLength": 1.5}), "maxLength"),
        (json!({"additionalProperties": "any"}), "additionalProperties"),
        (json!({"$ref": "https://example.com/#/definitions/a"}), "$ref"),
    ];
    for (mut schema, wrong) in cases {
        let text = schema.to_string();
        assert_eq!(SCHEMA.tidy(&mut schema, &mut |_| {}), Err(Wrong(wrong)), "{text}");
    }
    for (parameter, fits) in [
        (json!({"in": "query", "name": "q"}), true),
        (json!({"in": "header", "name": "h", "type": "array", "items": {"type": "string"}}), true),
        (json!({"in": "nowhere", "name": "q"}), false),
        (json!({"name": "q"}), false),
        (json!({"in": "body", "schema": {"format": 7}}), false),
    ] {
        let mut item = json!({"get": {"parameters": [parameter]}});
        assert_eq!(PATH.tidy(&mut item, &mut |_| {}).is_ok(), fits, "{item}");
    }
}

#[test]
fn what_no_message_has_is_let_go() {
    let mut schema = json!({"type": "object", "oneOf": [{}], "x-b": {"$ref": "#/definitions/no"},
                            "properties": {"$ref": {"$ref": "#/definitions/yes"}}, "default": {"$ref": "no"}});
    let mut seen = Vec::new();
    SCHEMA.tidy(&mut schema, &mut |name| seen.push(std::mem::replace(name, "new".to_owned()))).unwrap();
    assert_eq!(seen, ["yes"]);
    let wanted = json!({"type": "object", "x-b": {"$ref": "#/definitions/no"},
                        "properties": {"$ref": {"$ref": "#/definitions/new"}}, "default": {"$ref": "no"}});
    assert_eq!(schema, wanted);
}

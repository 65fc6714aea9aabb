use super::*;

#[test]
fn variables_stand_for_values_and_within_texts() {
    let text = "steps: [{ask: GET /x}]\neach: [{path: /apis/a/v1/namespaces/$ns/bs, name: n, object: {metadata: {name: $name}, n: 1}}]";
    let cases = Case::parse("f", text).unwrap();
    assert_eq!(cases[0].name, "f:a/v1/bs");
    let variables = Variables::of(&cases[0]);
    assert_eq!(variables.text("GET $path/$name"), "GET /apis/a/v1/namespaces/d-f-0/bs/n");
    assert_eq!(
        variables.tell(&json!({"o": "$object", "t": "a$name"})),
        json!({"o": {"metadata": {"name": "n"}, "n": 1}, "t": "an"})
    );
}

#[test]
fn a_file_with_an_unknown_word_is_refused() {
    assert!(Case::parse("f", "steps: [{ask: GET /x, boddy: {}}]").is_err());
}

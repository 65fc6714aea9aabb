use super::*;

fn wants(name: &str, names: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"group": "example.com", "names": names}})
}

fn foo() -> Value {
    let names = json!({"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList",
        "shortNames": ["f"], "categories": ["all"]});
    wants("foos.example.com", names)
}

fn take(names: &mut Names, definition: &mut Value) -> Outcome {
    let outcome = names.decide(definition, |_| false);
    definition["status"]["acceptedNames"] = outcome.accepted.clone();
    names.note(meta::name(definition), "example.com", &outcome);
    outcome
}

#[test]
fn the_first_gets_all_that_it_wants() {
    let (mut names, mut foo) = (Names::default(), foo());
    let outcome = take(&mut names, &mut foo);
    assert_eq!(outcome, Outcome { accepted: foo["spec"]["names"].clone(), conflict: None });
    // It keeps it, however often it is asked.
    assert_eq!(take(&mut names, &mut foo), outcome);
}

#[test]
fn a_name_is_had_once_in_a_group() {
    let mut names = Names::default();
    take(&mut names, &mut foo());
    for (field, value, reason) in [
        ("plural", json!("foos"), "PluralConflict"),
        ("singular", json!("f"), "SingularConflict"),
        ("kind", json!("Foo"), "KindConflict"),
        ("listKind", json!("FooList"), "ListKindConflict"),
        ("shortNames", json!(["foo"]), "ShortNamesConflict"),
    ] {
        let mut wanted = json!({"plural": "bars", "singular": "bar", "kind": "Bar", "listKind": "BarList"});
        wanted[field] = value;
        let outcome = names.decide(&wants("bars.example.com", wanted), |_| false);
        assert_eq!(outcome.conflict.map(|(reason, _)| reason), Some(reason));
        assert_eq!(outcome.accepted.get(field), None, "{field}");
    }
    let mut elsewhere = foo();
    elsewhere["spec"]["group"] = "other.example.com".into();
    assert_eq!(names.decide(&elsewhere, |_| false).conflict, None);
    let mut accepted = foo();
    accepted["status"]["acceptedNames"] = accepted["spec"]["names"].clone();
    assert_eq!(names.decide(&accepted, |name| name == "foos").conflict, None, "it is accepted already");
}

#[test]
fn a_builtin_resource_is_taken() {
    let outcome = Names::default().decide(&foo(), |name| name == "foos");
    assert_eq!(outcome.conflict, Some(("PluralConflict", "\"foos\" is already in use".to_owned())));
}

#[test]
fn who_waits_is_told_of_names_that_become_free() {
    let (mut names, mut first) = (Names::default(), foo());
    take(&mut names, &mut first);
    let mut second = wants("bars.example.com", json!({"plural": "bars", "singular": "bar", "kind": "Foo"}));
    assert!(take(&mut names, &mut second).conflict.is_some());
    assert_eq!(names.forget("foos.example.com", "example.com"), ["bars.example.com"]);
    assert_eq!(take(&mut names, &mut second).conflict, None);
}

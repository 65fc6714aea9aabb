use super::*;

fn arguments(require_annotation: bool) -> Arguments {
    Arguments { name: "a.b.c".to_owned(), config_map: "m".to_owned(), require_annotation }
}

#[test]
fn a_pod_gets_what_it_lacks_and_loses_one_entry() {
    let pod = json!({"metadata": {"initializers": {"pending": [{"name": "a.b.c"}, {"name": "d.e.f"}]}},
        "spec": {"containers": [{"name": "c", "image": "own"}]}});
    let additions = json!({"containers": [{"name": "c", "image": "other"}, {"name": "s", "image": "s"}],
        "volumes": [{"name": "v"}]});
    assert!(is_next(&pod, "a.b.c") && !is_next(&pod, "d.e.f"));
    let done = completed(&pod, &additions, &arguments(false));
    assert_eq!(
        done["spec"]["containers"],
        json!([{"name": "c", "image": "own"}, {"name": "s", "image": "s"}])
    );
    assert_eq!(done["spec"]["volumes"], json!([{"name": "v"}]));
    assert_eq!(done["metadata"]["initializers"]["pending"], json!([{"name": "d.e.f"}]));
    let untouched = completed(&pod, &additions, &arguments(true));
    assert_eq!(untouched["spec"], pod["spec"]);
    let mut asks = pod;
    asks["metadata"]["annotations"] = json!({"initializer.kubernetes.io/a": "true"});
    assert_eq!(completed(&asks, &additions, &arguments(true))["spec"], done["spec"]);
    let failed = rejected(&asks, "why");
    assert!(!is_next(&failed, "a.b.c"));
}

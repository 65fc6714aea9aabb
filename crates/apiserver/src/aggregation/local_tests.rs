use super::*;

#[test]
fn every_group_and_version_asks_for_one() {
    let wanted = wanted(&Kinds::builtin());
    let apps = &wanted["v1.apps"];
    assert_eq!(
        apps["spec"],
        json!({"group": "apps", "version": "v1", "groupPriorityMinimum": 17800,
                                    "versionPriority": 15})
    );
    assert_eq!(apps["metadata"]["labels"][AUTOMANAGED], "onstart");
    let core = json!({"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 15});
    assert_eq!(wanted["v1."]["spec"], core);
    assert!(wanted.keys().all(|name| !name.ends_with(GROUP)));
    let groups = Kinds::builtin();
    let groups = groups.groups();
    let unknown: Vec<_> = groups.iter().map(|g| g.name).filter(|name| !is_builtin(name)).collect();
    assert_eq!(unknown, [""; 0], "they have upstream's priorities");
}

#[test]
fn what_is_there_stays_and_what_was_made_for_others_goes() {
    let wanted: BTreeMap<_, _> = ["v1.a", "v1.b"].map(|name| (name.to_owned(), json!({"name": name}))).into();
    let there =
        [("v1.a", true), ("v1.users", false), ("v1.gone", true)].map(|(name, m)| (name.to_owned(), m));
    let (missing, gone) = plan(wanted, &there.into());
    assert_eq!((missing, gone), (vec![json!({"name": "v1.b"})], vec!["v1.gone".to_owned()]));
}

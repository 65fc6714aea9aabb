use std::collections::BTreeSet;

use tiphys_cri::v1::Capability;

use super::{DEFAULT, NAMES, ambient, granted};

fn wanted(add: &[&str], drop: &[&str]) -> Capability {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Capability { add_capabilities: owned(add), drop_capabilities: owned(drop), ..Capability::default() }
}

#[test]
fn additions_and_drops_work_on_the_default() {
    let all: BTreeSet<&str> = NAMES.into();
    let get = |add, drop| granted(&wanted(add, drop), false, &all).unwrap();
    assert_eq!(get(&[], &[]), DEFAULT);
    assert_eq!(
        get(&["NET_BIND_SERVICE", "cap_sys_time"], &["ALL"]),
        ["CAP_NET_BIND_SERVICE", "CAP_SYS_TIME"]
    );
    assert_eq!(get(&["ALL"], &["NET_RAW"]).len(), NAMES.len() - 1);
    assert!(!get(&[], &["CHOWN"]).contains(&"CAP_CHOWN".to_owned()));
}

#[test]
fn nobody_gets_more_than_this_process_has() {
    let few: BTreeSet<&str> = ["CAP_CHOWN", "CAP_SYS_TIME"].into();
    assert_eq!(granted(&wanted(&[], &[]), false, &few).unwrap(), ["CAP_CHOWN"]);
    assert_eq!(granted(&wanted(&[], &[]), true, &few).unwrap(), ["CAP_CHOWN", "CAP_SYS_TIME"]);
    assert_eq!(granted(&wanted(&["SYS_ADMIN"], &[]), false, &few).unwrap(), ["CAP_CHOWN"]);
}

#[test]
fn an_unknown_name_is_refused() {
    let error = granted(&wanted(&["SYS_EVERYTHING"], &[]), false, &NAMES.into()).unwrap_err();
    assert!(error.to_string().contains("SYS_EVERYTHING"));
}

#[test]
fn ambient_needs_to_be_granted() {
    let mut capability = wanted(&[], &[]);
    capability.add_ambient_capabilities = vec!["CHOWN".into(), "SYS_TIME".into()];
    assert_eq!(ambient(&capability, &["CAP_CHOWN".into()]).unwrap(), ["CAP_CHOWN"]);
}

use super::*;

#[test]
fn the_first_valid_file_by_name_is_the_network() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Chain::load(&dir.path().join("missing")).unwrap(), None);
    assert_eq!(Chain::load(dir.path()).unwrap(), None);
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("00-readme.txt", "not a network");
    write("10-broken.conflist", "{");
    write("20-old.conf", r#"{"cniVersion": "0.2.0", "name": "old", "type": "bridge"}"#);
    write("40-late.conflist", r#"{"cniVersion": "1.0.0", "name": "late", "plugins": [{"type": "bridge"}]}"#);
    write("30-single.conf", r#"{"cniVersion": "0.4.0", "name": "single", "type": "ptp"}"#);
    let chain = Chain::load(dir.path()).unwrap().unwrap();
    assert_eq!((chain.name(), chain.plugins().len()), ("single", 1));
    assert_eq!(chain.plugins()[0]["type"], "ptp");
}

#[test]
fn a_plugins_type_cannot_lead_out_of_its_directory() {
    for kind in ["../evil", "/bin/sh", "", ".hidden", "a b"] {
        let conf = json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": kind}]});
        assert!(Chain::from_conf(conf).is_err(), "{kind:?}");
    }
}

#[test]
fn a_request_is_the_plugins_configuration_with_the_networks_name_and_version() {
    let plugin = json!({"type": "a", "x": 1, "capabilities": {"portMappings": true}, "cniVersion": "0.1.0"});
    let conf = json!({"cniVersion": "1.1.0", "name": "n", "plugins": [plugin]});
    let chain = Chain::from_conf(conf).unwrap();
    let request = chain.request(&chain.plugins()[0]);
    assert_eq!(request, json!({"type": "a", "x": 1, "name": "n", "cniVersion": "1.1.0"}));
}

#[test]
fn commands_are_used_from_the_version_on_that_has_them() {
    let chain = |version: &str, more: Value| {
        let mut conf = json!({"cniVersion": version, "name": "n", "plugins": [{"type": "a"}]});
        conf.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Chain::from_conf(conf).unwrap()
    };
    assert!(!chain("0.3.1", json!({})).checks() && chain("0.4.0", json!({})).checks());
    assert!(!chain("1.0.0", json!({})).collects() && chain("1.1.0", json!({})).collects());
    assert!(!chain("1.1.0", json!({"disableCheck": true})).checks());
    assert!(!chain("1.1.0", json!({"disableGC": "true"})).collects());
}

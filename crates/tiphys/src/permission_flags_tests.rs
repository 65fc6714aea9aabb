use super::*;

fn config(flags: PermissionFlags) -> Result<Vec<String>, String> {
    let config = flags.authorizers(None).map_err(|error| format!("{error:#}"))?;
    Ok(config.0.into_iter().map(|(name, _)| name).collect())
}

fn modes(modes: &[&str]) -> PermissionFlags {
    let authorization_mode = modes.iter().map(|mode| (*mode).to_owned()).collect();
    PermissionFlags { authorization_mode, ..PermissionFlags::default() }
}

#[test]
fn modes_are_asked_in_their_order() {
    assert_eq!(config(modes(&[])).unwrap(), ["node", "rbac"]);
    assert_eq!(config(modes(&["RBAC", "Node", "AlwaysDeny"])).unwrap(), ["rbac", "node", "alwaysdeny"]);
    assert!(config(modes(&["RBAC", "RBAC"])).unwrap_err().contains("twice"));
    assert!(config(modes(&["Other"])).unwrap_err().contains("there is no Other"));
    assert!(config(modes(&["Webhook"])).unwrap_err().contains("--authorization-webhook-config-file"));
    let file = Some(PathBuf::from("/nowhere"));
    let unused = PermissionFlags { authorization_webhook_config_file: file, ..PermissionFlags::default() };
    assert!(config(unused).unwrap_err().contains("needs the mode Webhook"));
}

#[test]
fn policies_come_from_their_file() {
    assert!(config(modes(&["ABAC"])).unwrap_err().contains("--authorization-policy-file"));
    let file = std::env::temp_dir().join(format!("tiphys-policies-{}", std::process::id()));
    let flags = |text: &str, modes: &[&str]| {
        fs::write(&file, text).unwrap();
        let flags = self::modes(modes);
        config(PermissionFlags { authorization_policy_file: Some(file.clone()), ..flags })
    };
    assert_eq!(flags("{\"user\": \"a\"}", &["Node", "ABAC"]).unwrap(), ["node", "abac"]);
    assert!(flags("{\"user\": 7}", &["ABAC"]).unwrap_err().contains("line 1: "));
    assert!(flags("", &["RBAC"]).unwrap_err().contains("needs the mode ABAC"));

    fs::write(&file, "{\"user\": \"a\"}").unwrap();
    let configured = |authorization_policy_file| {
        let text = b"{apiVersion: apiserver.config.k8s.io/v1, kind: AuthorizationConfiguration, \
            authorizers: [{type: ABAC, name: lines}, {type: RBAC, name: roles}]}";
        PermissionFlags { authorization_policy_file, ..PermissionFlags::default() }.authorizers(Some(text))
    };
    let names = configured(Some(file.clone())).unwrap().0.into_iter().map(|(name, _)| name);
    assert_eq!(names.collect::<Vec<_>>(), ["lines", "roles"]);
    let lacking = format!("{:#}", configured(None).unwrap_err());
    assert!(lacking.contains("authorizers[0].type: Invalid value: \"ABAC\""), "{lacking}");
    fs::remove_file(&file).unwrap();
}

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
    assert!(config(modes(&["ABAC"])).unwrap_err().contains("there is no ABAC"));
    assert!(config(modes(&["Webhook"])).unwrap_err().contains("--authorization-webhook-config-file"));
    let file = Some(PathBuf::from("/nowhere"));
    let unused = PermissionFlags { authorization_webhook_config_file: file, ..PermissionFlags::default() };
    assert!(config(unused).unwrap_err().contains("needs the mode Webhook"));
}

//! Which credentials fit which image.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tiphys_cri::v1::AuthConfig;

use crate::content::Content;

/// The registry that images without one come from, as credentials name it.
const DEFAULT_REGISTRY: &str = "index.docker.io";

#[derive(Deserialize)]
struct DockerConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identitytoken: String,
}

/// Credentials in the order in which they should be tried for `image`: the more of the image's name their entry
/// names, the earlier. Secrets that can't be read are passed over.
pub fn matching<'a>(image: &str, secrets: impl IntoIterator<Item = &'a Content>) -> Vec<AuthConfig> {
    let image = qualified(image);
    let mut found: Vec<(usize, AuthConfig)> = Vec::new();
    for secret in secrets {
        for (registry, auth) in entries(secret) {
            let pattern = normalized(&registry);
            if matches(&pattern, &image) {
                found.push((pattern.len(), auth_config(&registry, auth)));
            }
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth).collect()
}

fn entries(secret: &Content) -> BTreeMap<String, DockerAuth> {
    match secret.type_.as_str() {
        "kubernetes.io/dockerconfigjson" => {
            let bytes = secret.data.get(".dockerconfigjson");
            bytes
                .and_then(|b| serde_json::from_slice::<DockerConfigJson>(b).ok())
                .map(|c| c.auths)
                .unwrap_or_default()
        }
        "kubernetes.io/dockercfg" => {
            let bytes = secret.data.get(".dockercfg");
            bytes.and_then(|b| serde_json::from_slice(b).ok()).unwrap_or_default()
        }
        _ => BTreeMap::new(),
    }
}

fn auth_config(registry: &str, entry: DockerAuth) -> AuthConfig {
    let decoded = STANDARD.decode(entry.auth.trim()).ok().and_then(|b| String::from_utf8(b).ok());
    let (username, password) = match decoded.as_deref().and_then(|d| d.split_once(':')) {
        Some((user, password)) if entry.username.is_empty() => (user.to_owned(), password.to_owned()),
        _ => (entry.username, entry.password),
    };
    AuthConfig {
        username,
        password,
        server_address: registry.to_owned(),
        identity_token: entry.identitytoken,
        ..AuthConfig::default()
    }
}

/// `host/path` of an image without tag and digest, the default registry spelled out.
fn qualified(image: &str) -> String {
    let name = image.split('@').next().unwrap_or_default();
    let name = match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    };
    match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "docker.io" => format!("{DEFAULT_REGISTRY}/{path}"),
            _ => name.to_owned(),
        },
        Some(_) => format!("{DEFAULT_REGISTRY}/{name}"),
        None => format!("{DEFAULT_REGISTRY}/library/{name}"),
    }
}

/// A registry as a secret names it, without scheme and API version.
fn normalized(registry: &str) -> String {
    let bare = registry.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    match bare.strip_prefix("docker.io") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{DEFAULT_REGISTRY}{rest}"),
        _ => bare.to_owned(),
    }
}

/// The pattern's host must match label by label, `*` within one label; its path must begin the image's.
fn matches(pattern: &str, image: &str) -> bool {
    let (host, path) = image.split_once('/').unwrap_or((image, ""));
    let (wanted_host, wanted_path) = pattern.split_once('/').unwrap_or((pattern, ""));
    let labels = |h: &str| h.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (have, want) = (labels(host), labels(wanted_host));
    let hosts = have.len() == want.len() && have.iter().zip(&want).all(|(h, w)| glob(w, h));
    hosts && path.starts_with(wanted_path)
}

fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut open = false;
    for part in parts {
        open = true;
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty() || (open && pattern.ends_with('*'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn secret(json: &str) -> Content {
        let data =
            BTreeMap::from([(".dockerconfigjson".to_owned(), Bytes::copy_from_slice(json.as_bytes()))]);
        Content { data, type_: "kubernetes.io/dockerconfigjson".into() }
    }

    #[test]
    fn the_closest_entry_comes_first() {
        let secret = secret(
            r#"{"auths": {"reg.example:5000": {"username": "a", "password": "1"},
                "https://reg.example:5000/team/": {"auth": "Yjoy"},
                "*.example.org": {"username": "c", "password": "3"},
                "https://index.docker.io/v1/": {"username": "d", "password": "4"}}}"#,
        );
        let users = |image: &str| -> Vec<String> {
            matching(image, [&secret]).into_iter().map(|a| format!("{}:{}", a.username, a.password)).collect()
        };
        assert_eq!(users("reg.example:5000/team/x:1"), ["b:2", "a:1"]);
        assert_eq!(users("reg.example:5000/other@sha256:00"), ["a:1"]);
        assert_eq!(users("x.example.org/y"), ["c:3"]);
        assert!(users("x.y.example.org/y").is_empty());
        assert_eq!(users("nginx"), ["d:4"]);
        assert_eq!(users("docker.io/library/nginx:1"), ["d:4"]);
        assert!(users("reg.example/x").is_empty());
    }

    #[test]
    fn unreadable_secrets_are_passed_over() {
        assert!(matching("nginx", [&secret("{"), &Content::default()]).is_empty());
    }
}

//! Endpoints that an administrator describes in a file of the shape of a kubeconfig, as upstream wants it for its
//! webhooks: the server of the current context, and what it knows this server by.

use std::path::Path;
use std::{fs, io};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use serde::Deserialize;
use tiphys_api::codec::yaml;

use super::{Place, Proof, Spec, Trust};

/// Why a file describes no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading {file}: {source}")]
    Read { file: String, source: io::Error },
    #[error("it is no YAML: {0}")]
    Yaml(String),
    #[error("it is no kubeconfig: {0}")]
    Shape(#[from] serde_json::Error),
    #[error("it names no {0} in its current context")]
    Missing(&'static str),
    #[error("{0} is not Base64")]
    Base64(&'static str),
    #[error("the token cannot stand in a header")]
    Token,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<Named<Cluster>>,
    #[serde(default)]
    users: Vec<Named<User>>,
    #[serde(default)]
    contexts: Vec<Named<Context>>,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "user", alias = "context")]
    value: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    username: Option<String>,
    #[serde(default)]
    password: String,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    #[serde(default)]
    user: String,
}

/// Reads the endpoint that a file describes; paths in it are relative to its directory.
///
/// # Errors
/// It, or a file that it names, cannot be read or is not what it should be.
pub fn spec(file: &Path) -> Result<Spec, Error> {
    parse(&read(file)?, file.parent().unwrap_or(Path::new("")))
}

fn parse(text: &[u8], base: &Path) -> Result<Spec, Error> {
    let json = yaml::to_json(text).map_err(|e| Error::Yaml(e.to_string()))?;
    let file: File = serde_json::from_slice(&json)?;
    let context = pick(&file.contexts, &file.current_context);
    let cluster = match context {
        Some(context) => pick(&file.clusters, &context.cluster),
        None => file.clusters.first().map(|cluster| &cluster.value),
    };
    let cluster = cluster.ok_or(Error::Missing("cluster"))?;
    let user = context.and_then(|context| pick(&file.users, &context.user));

    let pem = |data: &Option<String>, file: &Option<String>, what| match (data, file) {
        (Some(data), _) => STANDARD.decode(data).map(|pem| Some(pem.into())).map_err(|_| Error::Base64(what)),
        (None, Some(file)) => read(&base.join(file)).map(|pem| Some(pem.into())),
        (None, None) => Ok(None::<Bytes>),
    };
    let authority = pem(
        &cluster.certificate_authority_data,
        &cluster.certificate_authority,
        "certificate-authority-data",
    )?;
    let trust = match authority {
        _ if cluster.insecure_skip_tls_verify => Trust::Anybody,
        Some(bundle) => Trust::Bundle(bundle),
        None => Trust::System,
    };
    let proof = match user {
        None => Proof::None,
        Some(user) => {
            let chain =
                pem(&user.client_certificate_data, &user.client_certificate, "client-certificate-data")?;
            let key = pem(&user.client_key_data, &user.client_key, "client-key-data")?;
            match (chain, key) {
                (Some(chain), Some(key)) => Proof::Certificate { chain, key },
                (Some(_), None) => return Err(Error::Missing("client-key")),
                (None, _) => authorization(user, base)?.map_or(Proof::None, Proof::Header),
            }
        }
    };
    Ok(Spec { place: Place::Url(cluster.server.clone()), trust, proof })
}

fn pick<'a, T>(all: &'a [Named<T>], name: &str) -> Option<&'a T> {
    all.iter().find(|named| named.name == name).map(|named| &named.value)
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    fs::read(file).map_err(|source| Error::Read { file: file.display().to_string(), source })
}

/// The `authorization` header of a user with a token or a password.
fn authorization(user: &User, base: &Path) -> Result<Option<HeaderValue>, Error> {
    let text = match (&user.token, &user.token_file, &user.username) {
        (Some(token), _, _) => format!("Bearer {token}"),
        (None, Some(file), _) => {
            format!("Bearer {}", String::from_utf8_lossy(&read(&base.join(file))?).trim())
        }
        (None, None, Some(name)) => format!("Basic {}", STANDARD.encode(format!("{name}:{}", user.password))),
        (None, None, None) => return Ok(None),
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| Error::Token)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(cluster: &str, user: &str) -> Result<Spec, Error> {
        let text = format!(
            "{{current-context: c, contexts: [{{name: c, context: {{cluster: x, user: u}}}}], \
             clusters: [{{name: x, cluster: {cluster}}}], users: [{{name: u, user: {user}}}]}}"
        );
        parse(text.as_bytes(), Path::new("/nowhere"))
    }

    #[test]
    fn the_current_context_is_the_endpoint() {
        let spec =
            said("{server: 'https://h:1/a?b=c', certificate-authority-data: YWI=}", "{token: t}").unwrap();
        assert_eq!(spec.place, Place::Url("https://h:1/a?b=c".to_owned()));
        assert_eq!(spec.trust, Trust::Bundle(Bytes::from_static(b"ab")));
        assert!(spec.proof == Proof::Header(HeaderValue::from_static("Bearer t")));

        let spec =
            said("{server: 'https://h', insecure-skip-tls-verify: true}", "{username: a, password: b}");
        let spec = spec.unwrap();
        assert_eq!(spec.trust, Trust::Anybody);
        assert!(spec.proof == Proof::Header(HeaderValue::from_static("Basic YTpi")));

        let spec =
            said("{server: 'https://h'}", "{client-certificate-data: YQ==, client-key-data: Yg==}").unwrap();
        let (chain, key) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        assert!(spec.proof == Proof::Certificate { chain, key } && spec.trust == Trust::System);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(matches!(
            said("{server: 'https://h', certificate-authority: ca.pem}", "{}"),
            Err(Error::Read { file, .. }) if file == "/nowhere/ca.pem"
        ));
        assert!(matches!(
            said("{server: 'https://h'}", "{client-certificate-data: YQ==}"),
            Err(Error::Missing("client-key"))
        ));
        assert!(matches!(parse(b"{}", Path::new("")), Err(Error::Missing("cluster"))));
    }
}

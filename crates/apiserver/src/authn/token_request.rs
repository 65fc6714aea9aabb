//! `serviceaccounts/token`: hands out a token (`authentication.k8s.io/v1.TokenRequest`).

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tiphys_api::{
    field::{Error, Path},
    meta,
    status::{Reason, Status},
};

use super::{
    answered,
    claims::{Private, Reference},
    tokens::{Grant, Tokens},
};

const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
const DEFAULT_SECONDS: i64 = 3600;

/// Answers a request for a token of the service account `name`: the request with its status filled in.
/// `request` has its defaults or not; a `boundObjectRef` is looked up in the account's namespace.
pub fn token_request(
    tokens: &Tokens,
    namespace: &str,
    name: &str,
    mut request: Value,
    now: SystemTime,
) -> Result<Value, Status> {
    let spec = Path::new("spec");
    let seconds = match &request["spec"]["expirationSeconds"] {
        Value::Null => DEFAULT_SECONDS,
        other => other.as_i64().unwrap_or_default(),
    };
    let wrong = if seconds < MIN_SECONDS {
        Some("may not specify a duration less than 10 minutes")
    } else if seconds > MAX_SECONDS {
        Some("may not specify a duration larger than 2^32 seconds")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        let error = Error::invalid(&spec.child("expirationSeconds"), seconds, wrong);
        return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &[error]));
    }

    let source = tokens.source();
    let account = source
        .get("", "serviceaccounts", namespace, name)
        .ok_or_else(|| Status::not_found("", "serviceaccounts", name))?
        .tree();
    is_about(&request, namespace, &account)?;
    let mut claims = Private {
        namespace: namespace.to_owned(),
        node: None,
        pod: None,
        secret: None,
        serviceaccount: reference(&account),
    };
    bind(tokens, name, &request["spec"]["boundObjectRef"], &mut claims)?;

    let audiences: Vec<String> = match request["spec"]["audiences"].as_array() {
        Some(given) if !given.is_empty() => {
            given.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => tokens.audiences().to_vec(),
    };
    if audiences.len() > 64 || audiences.iter().any(|a| a.len() > 1024) {
        return Err(Status::bad_request("too many or too long audiences"));
    }
    let lifetime = Duration::from_secs(seconds.unsigned_abs());
    let (token, _) = tokens
        .issue(Grant { audiences: audiences.clone(), lifetime, claims }, now)
        .map_err(|e| Status::new(Reason::InternalError, format!("failed to generate token: {e}")))?;

    let moment = |at: SystemTime| match jiff::Timestamp::try_from(at) {
        Ok(at) => Ok(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        Err(why) => Err(Status::new(Reason::InternalError, format!("failed to generate token: {why}"))),
    };
    let (made, expires) = (moment(now)?, moment(now + lifetime)?);
    let metadata = meta::metadata_mut(&mut request);
    for (field, value) in
        [("name", name), ("namespace", namespace), ("uid", meta::uid(&account)), ("creationTimestamp", &made)]
    {
        metadata.insert(field.to_owned(), value.into());
    }
    let spec = meta::child_mut(meta::as_map(&mut request), "spec");
    spec.insert("audiences".to_owned(), audiences.into());
    spec.insert("expirationSeconds".to_owned(), seconds.into());
    Ok(answered(request, json!({ "token": token, "expirationTimestamp": expires })))
}

/// What the request says of the account must be so.
fn is_about(request: &Value, namespace: &str, account: &Value) -> Result<(), Status> {
    let path = Path::new("metadata");
    for (field, is) in [("name", meta::name(account)), ("namespace", namespace)] {
        let said = meta::text(request, &["metadata", field]);
        if !said.is_empty() && said != is {
            let wrong = format!("must match the service account {field} if specified");
            let error = Error::invalid(&path.child(field), said, wrong);
            return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &[error]));
        }
    }
    let (said, is) = (meta::uid(request), meta::uid(account));
    if !said.is_empty() && said != is {
        return Err(Status::conflict(
            "authentication.k8s.io",
            "TokenRequest",
            meta::name(account),
            &format!(
                "the UID in the token request ({said}) does not match the UID of the service account ({is})"
            ),
        ));
    }
    Ok(())
}

fn reference(object: &Value) -> Reference {
    Reference { name: meta::name(object).to_owned(), uid: meta::uid(object).to_owned() }
}

/// Looks up the object that the token shall end with, and notes it in the claims.
fn bind(tokens: &Tokens, account: &str, wanted: &Value, claims: &mut Private) -> Result<(), Status> {
    if wanted.is_null() {
        return Ok(());
    }
    let text = |key: &str| wanted[key].as_str().unwrap_or_default();
    let (api_version, kind, name, uid) = (text("apiVersion"), text("kind"), text("name"), text("uid"));
    let (resource, namespace) = match (api_version, kind) {
        ("v1" | "", "Pod") => ("pods", claims.namespace.clone()),
        ("v1" | "", "Secret") => ("secrets", claims.namespace.clone()),
        ("v1" | "", "Node") => ("nodes", String::new()),
        _ => {
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            let shown = format!("{group}/{version}, Kind={kind}");
            return Err(Status::bad_request(format!("cannot bind token to object of type {shown}")));
        }
    };
    let source = tokens.source();
    let object = source
        .get("", resource, &namespace, name)
        .ok_or_else(|| Status::not_found("", resource, name))?
        .tree();
    let found = reference(&object);
    if !uid.is_empty() && uid != found.uid {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
             have been deleted and then recreated"
        );
        return Err(Status::conflict("", kind, name, &why));
    }
    match resource {
        "pods" => {
            if meta::text(&object, &["spec", "serviceAccountName"]) != account {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different \
                     serviceaccount name."
                )));
            }
            let node = meta::text(&object, &["spec", "nodeName"]);
            if !node.is_empty() {
                claims.node = Some(match source.get("", "nodes", "", node) {
                    Some(node) => reference(&node.tree()),
                    None => Reference { name: node.to_owned(), uid: String::new() },
                });
            }
            claims.pod = Some(found);
        }
        "secrets" => claims.secret = Some(found),
        _ => claims.node = Some(found),
    }
    Ok(())
}

#[cfg(test)]
#[path = "token_request_tests.rs"]
mod tests;

//! Acting as somebody else: the `Impersonate-` headers.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName};
use tiphys_api::status::Status;

use crate::{
    authz::{Attributes, Chain, Target, require},
    identity::{
        ANONYMOUS, AUTHENTICATED, Identity, SERVICE_ACCOUNTS, UNAUTHENTICATED, parse_service_account,
    },
};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// Whom the request is to be treated as coming from. Without the headers that is `user`; with them, `user` must
/// be permitted to impersonate every part of the identity that they name.
pub async fn impersonate(chain: &Chain, user: Identity, headers: &HeaderMap) -> Result<Identity, Status> {
    let asked = Asked::read(headers)?;
    let Some(name) = asked.user else {
        return if asked.groups.is_empty() && asked.uid.is_none() && asked.extra.is_empty() {
            Ok(user)
        } else {
            let who = asked.in_go();
            Err(Status::bad_request(format!("requested {who} without impersonating a user name")))
        };
    };
    let account = parse_service_account(&name);
    let mut parts = vec![match account {
        Some((namespace, account)) => ("", "serviceaccounts", "", namespace, account),
        None => ("", "users", "", "", name.as_str()),
    }];
    parts.extend(asked.groups.iter().map(|group| ("", "groups", "", "", group.as_str())));
    let own = "authentication.k8s.io";
    for (key, values) in &asked.extra {
        parts.extend(values.iter().map(|value| (own, "userextras", key.as_str(), "", value.as_str())));
    }
    parts.extend(asked.uid.iter().map(|uid| (own, "uids", "", "", uid.as_str())));
    for (group, resource, subresource, namespace, name) in parts {
        let target = Target::Resource {
            group,
            version: "v1",
            resource,
            subresource,
            namespace,
            name,
            field_selector: "",
            label_selector: "",
        };
        require(chain, &Attributes { user: &user, verb: "impersonate", target }).await?;
    }

    let mut groups = asked.groups;
    if let (Some((namespace, _)), true) = (account, groups.is_empty()) {
        groups = vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
    }
    // Groups that were given decide whether the user counts as authenticated.
    let has = |group: &str| groups.iter().any(|g| g == group);
    if name == ANONYMOUS {
        if !has(UNAUTHENTICATED) {
            groups.push(UNAUTHENTICATED.to_owned());
        }
    } else if !has(AUTHENTICATED) && !has(UNAUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    Ok(Identity::impersonated(name, asked.uid.unwrap_or_default(), groups, asked.extra))
}

/// Removes the headers, before a request is handed on.
pub fn strip(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| [USER, GROUP, UID].contains(&name.as_str()) || name.as_str().starts_with(EXTRA))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

#[derive(Default)]
struct Asked {
    user: Option<String>,
    groups: Vec<String>,
    uid: Option<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Asked {
    /// As Go prints it (`%#v`), which is how upstream shows it.
    fn in_go(&self) -> String {
        let texts = |texts: &[String]| {
            let texts: Vec<_> = texts.iter().map(|text| format!("{text:?}")).collect();
            format!("[]string{{{}}}", texts.join(", "))
        };
        let groups = if self.groups.is_empty() { "[]string(nil)".to_owned() } else { texts(&self.groups) };
        let extra: Vec<_> =
            self.extra.iter().map(|(key, values)| format!("{key:?}:{}", texts(values))).collect();
        let extra = if extra.is_empty() { "(nil)".to_owned() } else { format!("{{{}}}", extra.join(", ")) };
        let uid = self.uid.as_deref().unwrap_or_default();
        format!(
            "&user.DefaultInfo{{Name:\"\", UID:{uid:?}, Groups:{groups}, Extra:map[string][]string{extra}}}"
        )
    }

    fn read(headers: &HeaderMap) -> Result<Self, Status> {
        let mut asked = Self::default();
        for (name, value) in headers {
            let name = name.as_str();
            if ![USER, GROUP, UID].contains(&name) && !name.starts_with(EXTRA) {
                continue;
            }
            let value = std::str::from_utf8(value.as_bytes())
                .map_err(|_| Status::bad_request(format!("the header {name} is not UTF-8")))?
                .to_owned();
            match name {
                // Like Go's Header.Get: the first one counts, an empty one is none.
                USER if asked.user.is_none() && !value.is_empty() => asked.user = Some(value),
                UID if asked.uid.is_none() && !value.is_empty() => asked.uid = Some(value),
                GROUP => asked.groups.push(value),
                USER | UID => {}
                _ => asked.extra.entry(unescape(&name[EXTRA.len()..])).or_default().push(value),
            }
        }
        Ok(asked)
    }
}

/// Undoes percent-encoding; what is not well-formed stays as it is.
pub(super) fn unescape(key: &str) -> String {
    let mut out = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            out.push(byte);
            rest = tail;
            continue;
        }
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &tail[2..];
            }
            None => return key.to_owned(),
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}

#[cfg(test)]
#[path = "impersonation_tests.rs"]
mod tests;

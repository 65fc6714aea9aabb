//! Whom a trusted proxy says that a request comes from: `X-Remote-` headers, believed of those alone who show a
//! certificate of the authority for front proxies.

use std::collections::BTreeMap;

use http::HeaderMap;
use tiphys_pki::{ClientTrust, Peer};

use super::impersonation::unescape;
use crate::identity::Identity;

const USER: &str = "x-remote-user";
const UID: &str = "x-remote-uid";
const GROUP: &str = "x-remote-group";
const EXTRA: &str = "x-remote-extra-";

/// Who may vouch for others.
pub struct FrontProxy {
    /// The authority of the proxies.
    pub trust: ClientTrust,
    /// The common names of those of its certificates that count; none: all of them.
    pub names: Vec<String>,
}

impl FrontProxy {
    pub(super) fn is_proxy(&self, peer: &Peer) -> bool {
        self.names.is_empty() || self.names.contains(&peer.user)
    }
}

/// Whom the headers name; `None` if they name nobody.
pub(super) fn named(headers: &HeaderMap) -> Option<Identity> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let user = text(USER);
    if user.is_empty() {
        return None;
    }
    let groups = headers.get_all(GROUP).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned);
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if let (Some(key), Ok(value)) = (name.as_str().strip_prefix(EXTRA), value.to_str()) {
            extra.entry(unescape(key)).or_default().push(value.to_owned());
        }
    }
    Some(Identity::authenticated(user, text(UID), groups.collect(), extra))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_a_user_with_all_that_belongs_to_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("X-Remote-Group", "a"),
            ("X-Remote-Group", "b"),
            ("X-Remote-Uid", "7"),
            ("X-Remote-Extra-example.com%2Fscope", "s"),
            ("X-Remote-Extra-example.com%2Fscope", "t"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        assert_eq!(named(&headers), None, "nobody is named");
        headers.insert(USER, "jane".parse().unwrap());
        let user = named(&headers).unwrap();
        assert_eq!((user.name(), user.uid()), ("jane", "7"));
        assert_eq!(user.groups(), ["a", "b", "system:authenticated"]);
        assert_eq!(user.extra()["example.com/scope"], ["s", "t"]);
    }
}

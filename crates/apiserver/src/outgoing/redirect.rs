//! Where an answer sends its reader on to, by the rules of Go's client, which all of upstream's webhooks are asked with.

use http::header::LOCATION;
use http::{Method, Response, StatusCode, Uri};

use super::Step;

/// So many redirects are followed.
pub(super) const MOST: usize = 10;

/// A request that an answer asks for instead.
#[derive(Debug, PartialEq)]
pub(super) struct Next {
    pub(super) method: Method,
    pub(super) to: Uri,
}

/// What to ask for next; `None` if the answer is one. One that names no other place is an answer, whatever its code.
///
/// # Errors
/// The answer names no place that can be asked, or one that is asked in the clear: what a webhook is shown is nobody
/// else's.
pub(super) fn next<T>(method: &Method, from: &Uri, answer: &Response<T>) -> Result<Option<Next>, Step> {
    let method = match answer.status() {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => Method::GET,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => method.clone(),
        _ => return Ok(None),
    };
    let Some(location) = answer.headers().get(LOCATION).filter(|location| !location.is_empty()) else {
        return Ok(None);
    };
    let refused = || Step::Redirect(String::from_utf8_lossy(location.as_bytes()).into_owned());
    let to = location.to_str().ok().and_then(|location| joined(from, location)).ok_or_else(refused)?;
    if to.scheme() != from.scheme() && to.scheme_str() != Some("https") {
        return Err(refused());
    }
    Ok(Some(Next { method, to }))
}

/// A reference as it stands in an answer from this place (RFC 3986, section 5), without its fragment.
fn joined(from: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.split('#').next().unwrap_or_default();
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    let whole = if reference.starts_with("https://") || reference.starts_with("http://") {
        reference.to_owned()
    } else if reference.starts_with("//") {
        format!("{scheme}:{reference}")
    } else if reference.split(['/', '?']).next().is_some_and(|first| first.contains(':')) {
        // Of another scheme.
        return None;
    } else {
        let beginning = match (reference.chars().next(), from.path().rfind('/')) {
            (Some('/'), _) => "",
            (Some('?') | None, _) => from.path(),
            (_, Some(slash)) => &from.path()[..=slash],
            (_, None) => "/",
        };
        let (path, query) = match reference.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (reference, String::new()),
        };
        format!("{scheme}://{authority}{}{query}", undotted(&format!("{beginning}{path}")))
    };
    let to: Uri = whole.parse().ok()?;
    to.authority().is_some().then_some(to)
}

/// A path without `.` and `..`.
fn undotted(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in path.split('/').skip(1) {
        ends_open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let slash = if ends_open && !segments.is_empty() { "/" } else { "" };
    format!("/{}{slash}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: u16, location: &str) -> Result<Option<(Method, String)>, Step> {
        let mut answer = Response::builder().status(code);
        if !location.is_empty() {
            answer = answer.header(LOCATION, location);
        }
        let from = "https://hook:8443/a/b?timeout=3s".parse().unwrap();
        let next = next(&Method::POST, &from, &answer.body(()).unwrap())?;
        Ok(next.map(|next| (next.method, next.to.to_string())))
    }

    #[test]
    fn references_are_resolved_from_where_they_stand() {
        for (location, to) in [
            ("https://other/x?y", "https://other/x?y"),
            ("//other:1/x", "https://other:1/x"),
            ("/x/../y/./z#f", "https://hook:8443/y/z"),
            ("c?d=../e", "https://hook:8443/a/c?d=../e"),
            ("../c/..", "https://hook:8443/"),
            ("..", "https://hook:8443/"),
            ("c/.", "https://hook:8443/a/c/"),
            ("?d", "https://hook:8443/a/b?d"),
        ] {
            assert_eq!(of(308, location).unwrap(), Some((Method::POST, to.to_owned())), "{location}");
        }
    }

    #[test]
    fn the_code_says_how_to_go_on() {
        for (code, method) in [
            (301, Some(Method::GET)),
            (302, Some(Method::GET)),
            (303, Some(Method::GET)),
            (307, Some(Method::POST)),
            (308, Some(Method::POST)),
            (300, None),
            (304, None),
            (200, None),
        ] {
            assert_eq!(of(code, "/x").unwrap().map(|(method, _)| method), method, "{code}");
            assert_eq!(of(code, "").unwrap(), None, "{code}");
        }
    }

    #[test]
    fn nothing_is_asked_in_the_clear_because_of_an_answer() {
        for location in ["http://hook/x", "ftp://x/", "https://", "https://a b/"] {
            assert!(matches!(of(307, location), Err(Step::Redirect(_))), "{location}");
        }
    }
}

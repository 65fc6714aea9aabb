//! The options of requests, which come in the query, and those of deletes in the body, too.
//!
//! What is wrong with them is told as of an object: 422, by the name that the options have.

use std::time::Duration;

use serde_json::Value;
use tiphys_api::decode::FieldValidation;
use tiphys_api::field::{Error, Path, quoted};
use tiphys_api::schedule::duration;
use tiphys_api::status::Status;

use super::query::Query;
use super::request_info::Verb;
use crate::registry::{DeleteOptions, Propagation};

impl Verb {
    /// The kind of the options that come with it.
    pub(super) fn options(self) -> &'static str {
        match self {
            Self::Get => "GetOptions",
            Self::List | Self::Watch | Self::DeleteCollection => "ListOptions",
            Self::Create => "CreateOptions",
            Self::Update => "UpdateOptions",
            Self::Patch => "PatchOptions",
            Self::Delete => KIND,
        }
    }
}

/// 422 for options of a kind.
pub(super) fn invalid(kind: &str, errors: &[Error]) -> Status {
    Status::invalid("meta.k8s.io", kind, "", errors)
}

/// Checks that what a list or a watch says of revisions goes together.
pub(super) fn list(verb: Verb, query: &Query) -> Result<(), Status> {
    const MATCH: &str = "resourceVersionMatch";
    query.integer("timeoutSeconds")?;
    let (watch, wish) = (verb == Verb::Watch, query.text(MATCH));
    let (at, initial) = (Path::new(MATCH), query.optional_flag("sendInitialEvents"));
    let mut errors = Vec::new();
    let mut forbidden = |path: &Path, why: &str| errors.push(Error::forbidden(path, why));
    if watch && initial.is_some() && wish != "NotOlderThan" {
        forbidden(&at, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if !wish.is_empty() {
        if watch && initial.is_none() {
            forbidden(
                &at,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        if !watch && query.text("resourceVersion").is_empty() {
            forbidden(&at, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if !query.text("continue").is_empty() {
            forbidden(&at, "resourceVersionMatch is forbidden when continue is provided");
        }
        if !watch && wish == "Exact" && query.text("resourceVersion") == "0" {
            forbidden(&at, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        let supported: &[&str] = if watch { &["NotOlderThan"] } else { &["Exact", "NotOlderThan", ""] };
        if !supported.contains(&wish) {
            errors.push(Error::not_supported(&at, wish, supported));
        }
    }
    if !watch && initial.is_some() {
        let path = Path::new("sendInitialEvents");
        errors.push(Error::forbidden(&path, "sendInitialEvents is forbidden for list"));
    }
    if errors.is_empty() { Ok(()) } else { Err(invalid(Verb::List.options(), &errors)) }
}

/// The name of a manager of fields; empty where the client says none.
pub(super) fn field_manager<'a>(kind: &str, query: &'a Query) -> Result<&'a str, Status> {
    const MAX: usize = 128;
    let (path, said) = (Path::new("fieldManager"), query.text("fieldManager"));
    let mut errors = Vec::new();
    if said.len() > MAX {
        errors.push(Error::too_long(&path, MAX));
    }
    for (at, c) in said.char_indices().filter(|(_, c)| c.is_control()) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        errors.push(Error::invalid(&path, said, why));
    }
    if errors.is_empty() { Ok(said) } else { Err(invalid(kind, &errors)) }
}

/// How strictly the client wants its body to be read.
pub(super) fn field_validation(kind: &str, query: &Query) -> Result<FieldValidation, Status> {
    let said = query.text("fieldValidation");
    FieldValidation::parse(said).ok_or_else(|| {
        let supported = ["", "Ignore", "Strict", "Warn"];
        invalid(kind, &[Error::not_supported(&Path::new("fieldValidation"), said, &supported)])
    })
}

/// What deletes call their options.
const KIND: &str = "DeleteOptions";

/// Reads `DeleteOptions` and whether they ask for a dry run.
///
/// # Errors
/// 400 for a body that is no `DeleteOptions`, 422 for options that contradict each other.
pub(crate) fn delete(body: Option<&Value>, query: &Query) -> Result<(DeleteOptions, bool), Status> {
    let Some(body) = body else { return from_query(query) };
    let kind = body["kind"].as_str().unwrap_or_default();
    if !body.is_object() || !matches!(kind, "" | KIND) {
        return Err(Status::bad_request("decoded object cannot be converted to DeleteOptions"));
    }
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    let condition = |key: &str| body["preconditions"][key].as_str().map(str::to_owned);
    let options = DeleteOptions {
        grace: match &body["gracePeriodSeconds"] {
            Value::Null => None,
            seconds => Some(seconds.as_i64().ok_or_else(|| {
                Status::bad_request("gracePeriodSeconds: Invalid value: must be a whole number of seconds")
            })?),
        },
        propagation: propagation(text("propagationPolicy").as_deref(), body["orphanDependents"].as_bool())?,
        uid: condition("uid"),
        resource_version: condition("resourceVersion"),
        orphans: false,
    };
    let asked = body["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok((options, dry_run(KIND, asked)? || dry_run(KIND, query.all("dryRun"))?))
}

fn from_query(query: &Query) -> Result<(DeleteOptions, bool), Status> {
    let text = |name| Some(query.text(name)).filter(|t| !t.is_empty());
    let options = DeleteOptions {
        grace: query.integer("gracePeriodSeconds")?,
        propagation: propagation(text("propagationPolicy"), query.optional_flag("orphanDependents"))?,
        uid: None,
        resource_version: None,
        orphans: false,
    };
    Ok((options, dry_run(KIND, query.all("dryRun"))?))
}

fn propagation(policy: Option<&str>, orphan: Option<bool>) -> Result<Option<Propagation>, Status> {
    let path = Path::new("propagationPolicy");
    let wrong = |error| Err(invalid(KIND, &[error]));
    match (policy, orphan) {
        (Some(said), Some(_)) => {
            wrong(Error::invalid(&path, said, "orphanDependents and deletionPropagation cannot be both set"))
        }
        (None, Some(true)) | (Some("Orphan"), None) => Ok(Some(Propagation::Orphan)),
        (None, Some(false)) | (Some("Background"), None) => Ok(Some(Propagation::Background)),
        (Some("Foreground"), None) => Ok(Some(Propagation::Foreground)),
        (Some(other), None) => {
            wrong(Error::not_supported(&path, other, &["Background", "Foreground", "Orphan", "nil"]))
        }
        (None, None) => Ok(None),
    }
}

/// Reads `timeout`, after which a client does not want its answer any more.
///
/// # Errors
/// 400 for what Go would not take for a duration.
pub(super) fn patience(text: &str) -> Result<Duration, Status> {
    let wrong = |how: &str| {
        let why = format!("time: {how} duration {}", quoted(text));
        Status::bad_request(format!("invalid timeout specified in the request URL - {why}"))
    };
    match duration(text) {
        _ if text.is_empty() => Ok(Duration::MAX),
        Some(Duration::ZERO) => Ok(Duration::MAX),
        Some(patience) => Ok(patience),
        None if text.parse::<f64>().is_ok() => Err(wrong("missing unit in")),
        None => Err(wrong("invalid")),
    }
}

/// Reads `dryRun`.
pub(super) fn dry_run<'a>(kind: &str, values: impl Iterator<Item = &'a str>) -> Result<bool, Status> {
    let asked: Vec<&str> = values.collect();
    if asked.iter().any(|value| *value != "All") {
        return Err(invalid(kind, &[Error::not_supported(&Path::new("dryRun"), asked, &["All"])]));
    }
    Ok(!asked.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_does_not_wait_says_so_as_go_writes_it() {
        assert_eq!(patience("32s"), Ok(Duration::from_secs(32)));
        assert_eq!((patience(""), patience("0")), (Ok(Duration::MAX), Ok(Duration::MAX)));
        for (text, why) in [
            ("x", r#"time: invalid duration "x""#),
            ("5", r#"time: missing unit in duration "5""#),
            ("5x", r#"time: invalid duration "5x""#),
        ] {
            let refused = patience(text).unwrap_err();
            assert_eq!(
                (refused.code(), refused.message),
                (400, format!("invalid timeout specified in the request URL - {why}"))
            );
        }
    }

    #[test]
    fn the_body_counts() {
        let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 5,
            "propagationPolicy": "Foreground", "preconditions": {"uid": "u", "resourceVersion": "7"},
            "dryRun": ["All"]});
        let (options, dry) = delete(Some(&body), &Query::parse("gracePeriodSeconds=9")).unwrap();
        assert!(dry);
        assert_eq!(
            options,
            DeleteOptions {
                grace: Some(5),
                propagation: Some(Propagation::Foreground),
                uid: Some("u".into()),
                resource_version: Some("7".into()),
                orphans: false,
            }
        );
    }

    #[test]
    fn without_a_body_the_query_counts() {
        let query = Query::parse("gracePeriodSeconds=0&orphanDependents=true&dryRun=All");
        let (options, dry) = delete(None, &query).unwrap();
        assert_eq!((options.grace, options.propagation, dry), (Some(0), Some(Propagation::Orphan), true));
    }

    #[test]
    fn nonsense_is_refused() {
        for (body, code) in [
            (json!({"kind": "Pod"}), 400),
            (json!([]), 400),
            (json!({"gracePeriodSeconds": "5"}), 400),
            (json!({"propagationPolicy": "Never"}), 422),
            (json!({"propagationPolicy": "Orphan", "orphanDependents": true}), 422),
            (json!({"dryRun": ["Some"]}), 422),
        ] {
            assert_eq!(delete(Some(&body), &Query::default()).unwrap_err().code(), code, "{body}");
        }
    }

    #[test]
    fn revisions_of_lists_and_watches_go_together() {
        let told = |verb, query: &str| list(verb, &Query::parse(query)).map_err(|e| e.message);
        for (verb, query) in [
            (Verb::List, "resourceVersion=7&resourceVersionMatch=Exact"),
            (Verb::List, "resourceVersion=0&resourceVersionMatch=NotOlderThan"),
            (Verb::List, "continue=x"),
            (Verb::Watch, "sendInitialEvents=true&resourceVersionMatch=NotOlderThan"),
            (Verb::Watch, "resourceVersion=7"),
        ] {
            assert_eq!(told(verb, query), Ok(()), "{query}");
        }
        let wrong = "ListOptions.meta.k8s.io \"\" is invalid: ";
        for (verb, query, why) in [
            (Verb::List, "resourceVersionMatch=Exact", "forbidden unless resourceVersion is provided"),
            (Verb::List, "resourceVersion=0&resourceVersionMatch=Exact", "\"exact\" is forbidden"),
            (Verb::List, "resourceVersion=7&resourceVersionMatch=exact", "Unsupported value: \"exact\""),
            (Verb::List, "resourceVersion=7&resourceVersionMatch=Exact&continue=x", "when continue"),
            (Verb::DeleteCollection, "sendInitialEvents=false", "sendInitialEvents is forbidden for list"),
            (Verb::Watch, "sendInitialEvents=true", "requires setting resourceVersionMatch"),
            (Verb::Watch, "resourceVersionMatch=NotOlderThan", "unless sendInitialEvents is provided"),
            (
                Verb::Watch,
                "sendInitialEvents=1&resourceVersionMatch=Exact",
                "supported values: \"NotOlderThan\"",
            ),
        ] {
            let message = told(verb, query).unwrap_err();
            assert!(message.starts_with(wrong) && message.contains(why), "{query}: {message}");
        }
    }

    #[test]
    fn managers_have_short_plain_names() {
        assert_eq!(field_manager("PatchOptions", &Query::parse("fieldManager=a+b")).unwrap(), "a b");
        for wrong in [format!("fieldManager={}", "x".repeat(129)), "fieldManager=a%0A".to_owned()] {
            assert_eq!(
                field_manager("PatchOptions", &Query::parse(&wrong)).unwrap_err().code(),
                422,
                "{wrong}"
            );
        }
    }
}

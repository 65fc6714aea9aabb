//! The options of deletes, which come in the body or in the query.

use serde_json::Value;
use tiphys_api::status::Status;

use super::query::Query;
use crate::registry::{DeleteOptions, Propagation};

/// Reads `DeleteOptions` and whether they ask for a dry run.
///
/// # Errors
/// 400 for a body that is no `DeleteOptions` or options that contradict each other.
pub(crate) fn delete(body: Option<&Value>, query: &Query) -> Result<(DeleteOptions, bool), Status> {
    let Some(body) = body else { return from_query(query) };
    let kind = body["kind"].as_str().unwrap_or_default();
    if !body.is_object() || !matches!(kind, "" | "DeleteOptions") {
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
    };
    let asked = body["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok((options, dry_run(asked)? || dry_run(query.all("dryRun"))?))
}

fn from_query(query: &Query) -> Result<(DeleteOptions, bool), Status> {
    let text = |name| Some(query.text(name)).filter(|t| !t.is_empty());
    let options = DeleteOptions {
        grace: query.integer("gracePeriodSeconds")?,
        propagation: propagation(text("propagationPolicy"), query.optional_flag("orphanDependents"))?,
        uid: None,
        resource_version: None,
    };
    Ok((options, dry_run(query.all("dryRun"))?))
}

fn propagation(policy: Option<&str>, orphan: Option<bool>) -> Result<Option<Propagation>, Status> {
    let policy = match policy {
        None => None,
        Some("Orphan") => Some(Propagation::Orphan),
        Some("Background") => Some(Propagation::Background),
        Some("Foreground") => Some(Propagation::Foreground),
        Some(other) => {
            return Err(Status::bad_request(format!(
                "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: {other:?}: \
                 supported values: \"Background\", \"Foreground\", \"Orphan\""
            )));
        }
    };
    match (policy, orphan) {
        (Some(_), Some(_)) => Err(Status::bad_request(
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: orphanDependents and \
             deletionPropagation cannot be both set",
        )),
        (None, Some(orphan)) => Ok(Some(if orphan { Propagation::Orphan } else { Propagation::Background })),
        (policy, None) => Ok(policy),
    }
}

/// Reads `dryRun`.
pub(crate) fn dry_run<'a>(values: impl Iterator<Item = &'a str>) -> Result<bool, Status> {
    let mut asked = false;
    for value in values.filter(|v| !v.is_empty()) {
        if value != "All" {
            return Err(Status::bad_request(format!(
                "dryRun: Unsupported value: {value:?}: supported values: \"All\""
            )));
        }
        asked = true;
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
        for body in [
            json!({"kind": "Pod"}),
            json!([]),
            json!({"gracePeriodSeconds": "5"}),
            json!({"propagationPolicy": "Never"}),
            json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
            json!({"dryRun": ["Some"]}),
        ] {
            assert_eq!(delete(Some(&body), &Query::default()).unwrap_err().code(), 400, "{body}");
        }
    }
}

//! `TokenReview`: tells who holds a token.

use serde_json::{Value, json};
use tiphys_api::status::Status;

use super::{Authenticator, answered};
use crate::identity::Identity;

/// An identity as `authentication.k8s.io/v1.UserInfo`.
pub(crate) fn user_info(user: &Identity) -> Value {
    let mut info = json!({ "username": user.name(), "groups": user.groups() });
    if !user.uid().is_empty() {
        info["uid"] = user.uid().into();
    }
    if !user.extra().is_empty() {
        info["extra"] = json!(user.extra());
    }
    info
}

/// Answers a `TokenReview`: the review with its status filled in. A token that is not valid is an answer, not an
/// error.
pub async fn token_review(authenticator: &Authenticator, review: Value) -> Result<Value, Status> {
    let (tokens, now) = (authenticator.tokens(), authenticator.now());
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let wanted: Vec<String> = match review["spec"]["audiences"].as_array() {
        Some(given) if !given.is_empty() => {
            given.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => tokens.audiences().to_vec(),
    };
    let status = match tokens.authenticate_for(token, &wanted, now) {
        Ok((user, audiences)) => {
            json!({ "authenticated": true, "user": user_info(&user), "audiences": audiences })
        }
        Err(error) => {
            // Whatever else it is, it is for this server alone.
            let both: Vec<&String> = wanted.iter().filter(|a| tokens.audiences().contains(a)).collect();
            let other = if both.is_empty() { None } else { authenticator.other_holder(token, now).await };
            match other {
                Some(user) => json!({ "authenticated": true, "user": user_info(&user), "audiences": both }),
                None => json!({ "user": {}, "error": error.to_string() }),
            }
        }
    };
    Ok(answered(review, status))
}

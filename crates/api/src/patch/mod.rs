//! The four ways to change an object without sending all of it, and who owns which field afterwards.
//!
//! All are pure functions over JSON trees. What a list or map *means* (is it one value, a set, a map keyed by
//! some fields?) comes from the kind's schema; where that says nothing, maps merge and lists are one value.

pub mod apply;
pub mod json;
pub mod merge;
mod place;
pub mod strategic;
pub mod two_way;

use crate::status::{Details, Reason, Status, StatusCause};

/// Why a patch could not be applied.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The patch itself makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// More operations than the server is willing to perform.
    #[error("The allowed maximum operations in a JSON patch is {allowed}, got {got}")]
    TooManyOperations { allowed: usize, got: usize },
    /// The patch is well formed and does not fit the object: a failed test, a missing path.
    #[error("{0}")]
    Unprocessable(String),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Malformed(message) => Self::bad_request(message),
            Error::TooManyOperations { .. } => Self::new(Reason::RequestEntityTooLarge, error.to_string()),
            Error::Unprocessable(message) => {
                let text = "the server rejected our request due to an error in our request";
                Self::new(Reason::Invalid, text).with_details(Details {
                    causes: vec![StatusCause {
                        reason: "UnexpectedServerResponse".to_owned(),
                        message,
                        field: "patch".to_owned(),
                    }],
                    ..Details::default()
                })
            }
        }
    }
}

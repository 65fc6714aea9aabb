//! Helpers that several test modules share.

use k8s_openapi::api::core::v1::Pod;

/// A pod from JSON.
pub(crate) fn pod_from(value: serde_json::Value) -> Pod {
    serde_json::from_value(value).expect("a pod")
}

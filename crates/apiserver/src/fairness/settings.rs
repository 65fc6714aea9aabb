//! What a PriorityLevelConfiguration says.

use http::HeaderValue;
use serde::Deserialize;
use serde_json::Value;
use tiphys_api::meta;

/// A priority level as its object describes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) uid: HeaderValue,
    pub(super) exempt: bool,
    /// Its part of the seats, beside the parts of the others.
    pub(super) shares: u32,
    /// Per cent of its seats that others may borrow.
    pub(super) lendable: u32,
    /// Per cent of its seats that it may borrow from others; without a limit if `None`.
    pub(super) borrowing: Option<u32>,
    /// `None`: a request that finds no seat is turned away.
    pub(super) queuing: Option<Queuing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Queuing {
    #[serde(default = "sixty_four")]
    pub(super) queues: u32,
    #[serde(default = "eight")]
    pub(super) hand_size: u32,
    #[serde(default = "fifty")]
    pub(super) queue_length_limit: u32,
}

fn sixty_four() -> u32 {
    64
}
fn eight() -> u32 {
    8
}
fn fifty() -> u32 {
    50
}

/// More queues than this are not made, whatever an object says.
const MAX_QUEUES: u32 = 10_000;
const MAX_HAND: u32 = 64;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    r#type: String,
    #[serde(default)]
    limited: Option<Limited>,
    #[serde(default)]
    exempt: Option<Limited>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Limited {
    nominal_concurrency_shares: Option<u32>,
    lendable_percent: Option<u32>,
    borrowing_limit_percent: Option<u32>,
    limit_response: Option<LimitResponse>,
}

#[derive(Deserialize)]
struct LimitResponse {
    r#type: String,
    queuing: Option<Queuing>,
}

impl Settings {
    /// `None` for an object that makes no sense, which validation lets nobody write.
    pub(super) fn read(object: &Value) -> Option<Self> {
        let spec = Spec::deserialize(&object["spec"]).ok()?;
        let exempt = spec.r#type == "Exempt";
        let said = if exempt { spec.exempt } else { Some(spec.limited?) }.unwrap_or_default();
        let queuing = said.limit_response.filter(|response| response.r#type == "Queue").map(|response| {
            let Queuing { queues, hand_size, queue_length_limit } =
                response.queuing.unwrap_or(Queuing { queues: 64, hand_size: 8, queue_length_limit: 50 });
            Queuing {
                queues: queues.clamp(1, MAX_QUEUES),
                hand_size: hand_size.clamp(1, MAX_HAND),
                queue_length_limit: queue_length_limit.min(MAX_QUEUES),
            }
        });
        Some(Self {
            name: meta::name(object).to_owned(),
            uid: uid(object),
            exempt,
            shares: said.nominal_concurrency_shares.unwrap_or(if exempt { 0 } else { 30 }).min(1 << 20),
            lendable: said.lendable_percent.unwrap_or(0).min(100),
            borrowing: said.borrowing_limit_percent.map(|percent| percent.min(1 << 20)),
            queuing,
        })
    }
}

/// The UID of an object, as it goes into a header.
pub(super) fn uid(object: &Value) -> HeaderValue {
    HeaderValue::from_str(meta::uid(object)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

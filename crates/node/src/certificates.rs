//! Certificates that pods' volumes show (KEP-4317).
//!
//! The node makes a key and asks for a certificate by a PodCertificateRequest; whoever signs for the signer that the
//! volume names answers in the request's status, and says there when to ask anew. Keys are held in memory alone: after a
//! restart of the node it asks again.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    PodCertificateRequest, PodCertificateRequestSpec, PodCertificateRequestStatus,
};
use k8s_openapi::api::core::v1::{PodCertificateProjection, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::PostParams;
use kube::runtime::watcher::{self, Event};
use rand::Rng as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tiphys_client::follow;
use tiphys_pki::{AskingKey, pem};

use crate::context::about_pod;
use crate::pod;
use crate::worker::operations::Job;

/// How long an answer is waited for at a time.
const PATIENCE: Duration = Duration::from_secs(10);
/// From then to the next look, while an older certificate is shown.
const AGAIN: Duration = Duration::from_secs(60);
/// From a request that was taken away to the next.
const PAUSE: Duration = Duration::from_secs(1);
/// Pods that were made together ask anew within this time, not at once.
const SPREAD: u64 = 5 * 60;
/// So long after its time a new certificate is overdue.
const OVERDUE: Duration = Duration::from_secs(10 * 60);

/// Why there is no certificate to be shown. The texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Nobody has answered yet.
    #[error("credential bundle is not issued yet")]
    NotIssued,
    /// The signer will not.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The node cannot make such a key.
    #[error("while generating keypair: this node makes no keys of type {0:?}")]
    KeyType(String),
    /// No key could be made.
    #[error("while generating keypair: {0}")]
    Key(String),
    /// The API did not take the request, or did not tell of it.
    #[error("while {step}: {why}")]
    Api {
        /// What was asked.
        step: &'static str,
        /// The answer.
        why: String,
    },
}

/// The last word of a signer that gives no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PodCertificateRequest was permanently {how}: reason={reason:?} message={message:?}")]
pub struct Refusal {
    /// Denied, or failed.
    how: &'static str,
    reason: String,
    message: String,
}

fn api(step: &'static str) -> impl FnOnce(kube::Error) -> CertificateError {
    move |error| CertificateError::Api { step, why: error.to_string() }
}

/// Which of a pod's volumes shows a certificate, and by which of its sources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The volume's name.
    pub volume: String,
    /// The source's number.
    pub source: usize,
}

/// What a volume shows, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Shown {
    /// The key.
    pub key: String,
    /// The certificate that was issued for it, and what leads from there to the authority.
    pub chain: String,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shown").field("chain", &self.chain).finish_non_exhaustive()
    }
}

struct Issued {
    shown: Shown,
    refresh_at: Timestamp,
    not_after: Timestamp,
    told_overdue: bool,
    told_expired: bool,
}

/// A request that has not been answered, and its key.
struct Asked {
    name: String,
    key: String,
}

/// fresh ─▶ asked ─▶ issued ─▶ issued and asked ─▶ issued …; or from each that is asked to refused, for good.
#[derive(Default)]
struct Held {
    issued: Option<Issued>,
    asked: Option<Asked>,
    refused: Option<CertificateError>,
}

/// The certificates that a pod has been given. Not to be printed.
#[derive(Default)]
pub(crate) struct Certificates(BTreeMap<Place, Held>);

/// How a request ended.
enum Outcome {
    Issued(PodCertificateRequestStatus),
    Refused(Refusal),
    /// There is no such request.
    Gone,
}

impl Certificates {
    /// All that the pod's volumes show, asked for where missing or due; and when to look again. What fails is told with its
    /// volume.
    pub(crate) async fn fetch(
        &mut self,
        job: &Job,
        wanted: &BTreeMap<Place, PodCertificateProjection>,
    ) -> Result<(BTreeMap<Place, Shown>, Option<Timestamp>), (String, CertificateError)> {
        self.0.retain(|place, _| wanted.contains_key(place));
        let (mut shown, mut due) = (BTreeMap::new(), None::<Timestamp>);
        for (place, wanted) in wanted {
            let held = self.0.entry(place.clone()).or_default();
            let (one, again) =
                held.fetch(job, wanted).await.map_err(|error| (place.volume.clone(), error))?;
            shown.insert(place.clone(), one);
            due = due.into_iter().chain([again]).min();
        }
        Ok((shown, due))
    }
}

impl Held {
    async fn fetch(
        &mut self,
        job: &Job,
        wanted: &PodCertificateProjection,
    ) -> Result<(Shown, Timestamp), CertificateError> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(refused) = &self.refused {
                return Err(refused.clone());
            }
            let now = Timestamp::now();
            let again = now.saturating_add(AGAIN).unwrap_or(Timestamp::MAX);
            if let Some(issued) = self.issued.as_ref().filter(|issued| now < issued.refresh_at) {
                return Ok((issued.shown.clone(), issued.refresh_at));
            }
            let asked = match self.asked.take() {
                Some(asked) => asked,
                None => ask(job, wanted).await?,
            };
            let outcome = tokio::select! {
                outcome = outcome(job, &asked.name) => outcome.map(Some),
                () = tokio::time::sleep_until(deadline) => Ok(None),
                () = job.stop.cancelled() => Ok(None),
            };
            match outcome {
                Ok(Some(Outcome::Issued(status))) => {
                    let issued = self.issued.insert(Issued::of(asked.key, status));
                    return Ok((issued.shown.clone(), issued.refresh_at.max(again)));
                }
                Ok(Some(Outcome::Refused(refusal))) => {
                    refusal.tell(job, &asked.name);
                    self.refused = Some(CertificateError::Refused(refusal));
                }
                // It is asked once more, but not as fast as somebody may take requests away.
                Ok(Some(Outcome::Gone)) => tokio::time::sleep(PAUSE).await,
                Ok(None) => {
                    self.asked = Some(asked);
                    let issued = self.issued.as_mut().ok_or(CertificateError::NotIssued)?;
                    issued.tell_age(job, now);
                    return Ok((issued.shown.clone(), again));
                }
                Err(error) => {
                    self.asked = Some(asked);
                    return Err(error);
                }
            }
        }
    }
}

impl Refusal {
    fn tell(&self, job: &Job, name: &str) {
        let Self { how, reason, message } = self;
        let (type_, did) = if *how == "denied" { ("Denied", "was denied") } else { ("Failed", "failed") };
        let request = format!("{}/{name}", job.key.namespace);
        let text = format!("PodCertificateRequest {request} {did}, reason={reason:?}, message={message:?}");
        job.ctx.events.warning(&about_pod(&job.pod), type_, text);
    }
}

impl Issued {
    fn of(key: String, status: PodCertificateRequestStatus) -> Self {
        let chain = status.certificate_chain.unwrap_or_default();
        // What stands between the certificates is nobody's business.
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).filter_map(Result::ok);
        let chain = chain.map(|der| pem("CERTIFICATE", &der)).collect();
        let spread = Duration::from_secs(rand::rng().random_range(0..SPREAD));
        let refresh_at = status.begin_refresh_at.map_or(Timestamp::MAX, |time| time.0);
        Self {
            shown: Shown { key, chain },
            refresh_at: refresh_at.saturating_add(spread).unwrap_or(Timestamp::MAX),
            not_after: status.not_after.map_or(Timestamp::MAX, |time| time.0),
            told_overdue: false,
            told_expired: false,
        }
    }

    /// Tells, once each, that a new certificate is overdue and that this one has expired.
    fn tell_age(&mut self, job: &Job, now: Timestamp) {
        let overdue = self.refresh_at.saturating_add(OVERDUE).is_ok_and(|at| now > at);
        for (is, told, reason, text) in [
            (
                overdue,
                &mut self.told_overdue,
                "CertificateOverdueForRefresh",
                "PodCertificate refresh overdue",
            ),
            (now > self.not_after, &mut self.told_expired, "CertificateExpired", "PodCertificate expired"),
        ] {
            if is && !std::mem::replace(told, true) {
                job.ctx.events.warning(&about_pod(&job.pod), reason, text.to_owned());
            }
        }
    }
}

/// Makes a key and asks for a certificate for it.
async fn ask(job: &Job, wanted: &PodCertificateProjection) -> Result<Asked, CertificateError> {
    let kind = wanted.key_type.as_str();
    let key = AskingKey::new(kind).map_err(|error| CertificateError::Key(error.to_string()))?;
    let key = key.ok_or_else(|| CertificateError::KeyType(kind.to_owned()))?;
    let account = pod::spec(&job.pod).service_account_name.clone().filter(|name| !name.is_empty());
    let account = account.unwrap_or_else(|| "default".to_owned());
    let accounts: Api<ServiceAccount> = Api::namespaced(job.ctx.kube.clone(), &job.key.namespace);
    let of_account = accounts.get(&account).await.map_err(api("fetching service account"))?.metadata.uid;
    let node_uid = job.ctx.node.borrow().as_ref().and_then(|node| node.metadata.uid.clone());
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: job.key.name.clone(),
        uid: job.key.uid.to_string(),
        ..OwnerReference::default()
    };
    let request = PodCertificateRequest {
        metadata: ObjectMeta {
            generate_name: Some("req-".to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: PodCertificateRequestSpec {
            signer_name: wanted.signer_name.clone(),
            pod_name: job.key.name.clone(),
            pod_uid: job.key.uid.to_string(),
            service_account_name: account,
            service_account_uid: of_account.unwrap_or_default(),
            node_name: job.ctx.config.node_name.clone(),
            node_uid: node_uid.unwrap_or_default(),
            max_expiration_seconds: wanted.max_expiration_seconds,
            stub_pkc_s10_request: ByteString(key.request),
            unverified_user_annotations: wanted.user_annotations.clone(),
        },
        status: None,
    };
    let made = requests(job).create(&PostParams::default(), &request).await;
    let made = made.map_err(api("creating PodCertificateRequest"))?;
    Ok(Asked { name: made.metadata.name.unwrap_or_default(), key: key.pem })
}

fn requests(job: &Job) -> Api<PodCertificateRequest> {
    Api::namespaced(job.ctx.kube.clone(), &job.key.namespace)
}

/// Waits until the request ends.
async fn outcome(job: &Job, name: &str) -> Result<Outcome, CertificateError> {
    // The selector by the node is what opens them to it.
    let selector = format!("metadata.name={name},spec.nodeName={}", job.ctx.config.node_name);
    let events = follow(requests(job), watcher::Config::default().fields(&selector));
    pin_mut!(events);
    let mut seen = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => seen = false,
            Ok(Event::InitApply(request) | Event::Apply(request)) => {
                seen = true;
                if let Some(ended) = ended(request) {
                    return Ok(ended);
                }
            }
            Ok(Event::InitDone) if seen => {}
            Ok(Event::InitDone | Event::Delete(_)) => return Ok(Outcome::Gone),
            Err(error) => {
                let step = "getting PodCertificateRequest";
                return Err(CertificateError::Api { step, why: error.to_string() });
            }
        }
    }
    Ok(Outcome::Gone)
}

fn ended(request: PodCertificateRequest) -> Option<Outcome> {
    let status = request.status?;
    let ends = |type_: &str| status.conditions.iter().flatten().find(|c| c.type_ == type_).cloned();
    for (type_, how) in [("Denied", "denied"), ("Failed", "failed")] {
        if let Some(condition) = ends(type_) {
            let (reason, message) = (condition.reason, condition.message);
            return Some(Outcome::Refused(Refusal { how, reason, message }));
        }
    }
    ends("Issued").map(|_| Outcome::Issued(status))
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;

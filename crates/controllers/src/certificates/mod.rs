//! CertificateSigningRequests for Kubernetes' own signers: those of kubelets are approved where their senders may
//! ask for them, approved ones are signed by the cluster's authority, and old ones go.

mod plan;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::{
        authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
        certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, Client, api::PostParams};
use tiphys_client::{ObjectKey, Queue, Reader, Verdict};
use tiphys_pki::{Authority, SigningRequest};
use tracing::warn;

use self::plan::{Step, step};
use crate::{
    claim::{gone_is_fine, only},
    controller::{Controller, Tools},
    informers::Informers,
    object::Object,
};

/// What upstream calls the parts of the work where controllers are switched on and off.
pub(crate) const APPROVING: &str = "certificatesigningrequest-approving-controller";
pub(crate) const SIGNING: &str = "certificatesigningrequest-signing-controller";
pub(crate) const CLEANING: &str = "certificatesigningrequest-cleaner-controller";

/// Which parts of the work are done here.
pub(crate) struct Duties {
    pub(crate) approves: bool,
    /// By whom.
    pub(crate) signs: Option<Arc<Authority>>,
    pub(crate) cleans: bool,
}

impl Duties {
    pub(crate) fn any(&self) -> bool {
        self.approves || self.signs.is_some() || self.cleans
    }
}

pub(crate) struct Certificates {
    client: Client,
    queue: Queue<ObjectKey>,
    requests: Reader<CertificateSigningRequest>,
    duties: Duties,
}

impl Certificates {
    pub(crate) fn new(tools: Tools, informers: &mut Informers, duties: Duties) -> Self {
        let queue = Queue::new();
        informers.signing_requests.on_change({
            let queue = queue.clone();
            move |change| queue.add(change.key.clone())
        });
        Self { client: tools.client, queue, requests: informers.signing_requests.reader(), duties }
    }

    /// Whether the sender of the request may have one of this sort.
    async fn may(&self, request: &CertificateSigningRequest, sort: &str) -> Result<bool, kube::Error> {
        let spec = &request.spec;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".to_owned()),
                    resource: Some("certificatesigningrequests".to_owned()),
                    subresource: Some(sort.to_owned()),
                    verb: Some("create".to_owned()),
                    ..Default::default()
                }),
                ..Default::default()
            },
            ..Default::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    fn condition(kind: &str, reason: &str, message: &str) -> CertificateSigningRequestCondition {
        CertificateSigningRequestCondition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_update_time: Some(Time(Timestamp::now())),
            last_transition_time: None,
        }
    }

    async fn approve(&self, request: &CertificateSigningRequest, message: &str) -> Result<(), kube::Error> {
        let mut approved = request.clone();
        let conditions = approved.status.get_or_insert_default().conditions.get_or_insert_default();
        conditions.push(Self::condition("Approved", "AutoApproved", message));
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let sent: Result<CertificateSigningRequest, _> =
            api.replace_subresource("approval", request.name(), &PostParams::default(), &approved).await;
        gone_is_fine(sent)?;
        Ok(())
    }

    async fn tell(&self, told: CertificateSigningRequest) -> Result<(), kube::Error> {
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        gone_is_fine(api.replace_status(told.name(), &PostParams::default(), &told).await)?;
        Ok(())
    }
}

impl Controller for Certificates {
    const NAME: &'static str = "certificate-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.requests.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(request) = self.requests.get(key) else { return Ok(Verdict::Done) };
        let asked = SigningRequest::parse(&request.spec.request.0);
        let now = Timestamp::now();
        match step(&request, asked.as_ref().ok(), now) {
            Step::Delete if !self.duties.cleans => Ok(Verdict::Done),
            Step::Ask(_) if !self.duties.approves => Ok(plan::again(&request, now)),
            Step::Fail(_) if self.duties.signs.is_none() => Ok(plan::again(&request, now)),
            Step::Delete => {
                let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
                gone_is_fine(api.delete(request.name(), &only(request.uid())).await)?;
                Ok(Verdict::Done)
            }
            Step::Ask(sorts) => {
                for (sort, message) in sorts {
                    if self.may(&request, sort).await? {
                        self.approve(&request, message).await?;
                        return Ok(Verdict::Done);
                    }
                }
                Ok(plan::again(&request, now))
            }
            Step::Fail(why) => {
                let mut failed = (*request).clone();
                let conditions = failed.status.get_or_insert_default().conditions.get_or_insert_default();
                conditions.push(Self::condition("Failed", "SignerValidationFailure", why));
                self.tell(failed).await?;
                Ok(Verdict::Done)
            }
            Step::Sign { usages, life } => {
                let (Ok(asked), Some(authority)) = (asked, &self.duties.signs) else {
                    return Ok(plan::again(&request, now));
                };
                let signed = match authority.sign(&asked, &usages, life, SystemTime::now()) {
                    Ok(signed) => signed,
                    Err(error) => {
                        warn!(request = request.name(), %error, "cannot sign a certificate");
                        return Ok(Verdict::After(Duration::from_secs(60)));
                    }
                };
                let mut told = (*request).clone();
                told.status.get_or_insert_default().certificate = Some(ByteString(signed.into_bytes()));
                self.tell(told).await?;
                Ok(Verdict::Done)
            }
            Step::Nothing => Ok(plan::again(&request, now)),
        }
    }
}

//! Who may come in and what they may do, put together: the one place that knows all of authentication,
//! authorization and admission.

use std::sync::Arc;

use serde_json::Value;
use tiphys_api::{field, kind::Kinds, status::Status};
use tiphys_pki::{ClientTrust, Clock, Leaf, Pki, Rotating};
use tokio::sync::watch;

use crate::definitions;
use crate::{
    admission::{self, Initializers, Plugin, PolicyCounts, WebhookCounts},
    authn::{self, Anonymous, Authenticator, FrontProxy, Issuer, Issuers, Others, Tokens},
    authz::{
        self, Abac, Always, Authorizer, Chain, Escalation, How, NodeAuthorizer, Rbac, Webhook, WebhookCalls,
        config::Mode, policy, review,
    },
    identity::Identity,
    metrics::{Configuration, Reloads},
    outgoing::{Dial, Outgoing, SpecError},
    source::Source,
};

/// Why nobody could be let in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Pki(#[from] tiphys_pki::Error),
    #[error("the webhook for tokens: {0}")]
    TokenWebhook(#[source] SpecError),
    #[error("{0}")]
    OwnIssuer(field::Error),
    #[error("the authorizer {name:?}: {source}")]
    Authorizer { name: String, source: SpecError },
}

pub struct Security {
    authenticator: Authenticator,
    authorizer: Arc<Chain>,
    webhook_calls: Arc<WebhookCalls>,
    /// Those of admission's webhooks.
    webhook_counts: Arc<WebhookCounts>,
    policy_counts: Arc<PolicyCounts>,
    reloads: Reloads,
    /// The URL that this cluster's own tokens name.
    own_issuer: String,
    issuers: Arc<Issuers>,
    nodes: Arc<NodeAuthorizer>,
    rbac: Arc<Rbac>,
    source: Arc<dyn Source>,
    outgoing: Arc<Outgoing>,
}

impl Security {
    /// `issuer` is the URL that service-account tokens name; `others` tell of users, too; `authorizers` are asked in
    /// their order; `dial` makes connections to webhooks and other API servers, if it is not TCP that does.
    ///
    /// # Errors
    /// An authority cannot be used to verify client certificates, or a webhook not be called.
    pub fn new(
        pki: &Pki,
        issuer: String,
        source: Arc<dyn Source>,
        clock: Clock,
        others: Others,
        authorizers: authz::config::Config,
        dial: Option<Arc<dyn Dial>>,
    ) -> Result<Self, Error> {
        let tokens = Arc::new(Tokens::new(Arc::clone(&pki.tokens), issuer.clone(), Arc::clone(&source)));
        let rbac = Arc::new(Rbac::new(Arc::clone(&source)));
        let front_proxy =
            Rotating::new(Arc::clone(&pki.front_proxy), Leaf::front_proxy_client(), Arc::clone(&clock))?;
        let outgoing = Outgoing::new(Arc::clone(&source), Some(Arc::new(front_proxy)));
        let outgoing = Arc::new(match dial {
            Some(dial) => outgoing.by(dial),
            None => outgoing,
        });
        let front_proxies = FrontProxy {
            trust: ClientTrust::new([pki.front_proxy.certificate()])?,
            names: vec![Leaf::front_proxy_client().common_name],
        };
        let (issuers, anonymous) = (others.issuers.clone(), others.anonymous.clone());
        let known = Arc::new(Issuers::new(Vec::new(), Arc::clone(&outgoing)));
        let bearers = others.bearers(&source, &outgoing, &known, tokens.audiences());
        let bearers = bearers.map_err(Error::TokenWebhook)?;
        let nodes = Arc::new(NodeAuthorizer::new(Arc::clone(&source), policy::node_rules()));
        let security = Self {
            authenticator: Authenticator::new(pki.client_trust()?, tokens, clock)
                .with_front_proxy(front_proxies)
                .with_bearers(bearers),
            authorizer: Arc::new(Chain::new(Vec::new())),
            webhook_calls: Arc::new(WebhookCalls::new()),
            webhook_counts: Arc::default(),
            policy_counts: Arc::default(),
            reloads: Reloads::default(),
            own_issuer: issuer,
            issuers: known,
            nodes,
            rbac,
            source,
            outgoing,
        };
        security.authenticate_by(issuers, anonymous)?;
        security.authorize_by(authorizers)?;
        Ok(security)
    }

    /// From now on believes these issuers, and lets these in without credentials.
    ///
    /// # Errors
    /// An issuer gives itself out for this cluster.
    pub fn authenticate_by(&self, issuers: Vec<Issuer>, anonymous: Anonymous) -> Result<(), Error> {
        if let Some(index) = issuers.iter().position(|issuer| issuer.url == self.own_issuer) {
            let path = field::Path::new("jwt").index(index).child("issuer").child("url");
            let why = format!("URL must not overlap with disallowed issuers: [{}]", self.own_issuer);
            return Err(Error::OwnIssuer(field::Error::invalid(&path, self.own_issuer.as_str(), why)));
        }
        self.issuers.replace(issuers);
        self.authenticator.let_in(anonymous);
        Ok(())
    }

    /// From now on asks these authorizers. What is wrong with them changes nothing.
    ///
    /// # Errors
    /// A webhook cannot be called.
    pub fn authorize_by(&self, config: authz::config::Config) -> Result<(), Error> {
        let mode = |(name, mode): (String, Mode)| {
            let kind = mode.kind();
            let how = match mode {
                Mode::AlwaysAllow => How::Memory(Arc::new(Always(true))),
                Mode::AlwaysDeny => How::Memory(Arc::new(Always(false))),
                Mode::Node => How::Memory(Arc::clone(&self.nodes) as Arc<dyn Authorizer>),
                Mode::Rbac => How::Memory(Arc::clone(&self.rbac) as _),
                Mode::Abac(policies) => How::Memory(Arc::new(Abac(policies))),
                Mode::Webhook(config) => {
                    let calls = Arc::clone(&self.webhook_calls);
                    let webhook = Webhook::new(name.clone(), *config, &self.outgoing, calls);
                    let failed = |source| Error::Authorizer { name: name.clone(), source };
                    How::Webhook(Arc::new(webhook.map_err(failed)?))
                }
            };
            Ok((kind, name, how))
        };
        let modes: Vec<_> = config.0.into_iter().map(mode).collect::<Result<_, Error>>()?;
        self.authorizer.replace(modes);
        Ok(())
    }

    /// A changed configuration was taken in, or was not.
    pub fn reloaded(&self, what: Configuration, done: bool) {
        self.reloads.ended(what, done, (self.authenticator.clock())());
    }

    /// What is counted of decisions; `id` tells servers apart.
    pub(crate) fn expose(&self, id: &str, text: &mut tiphys_metrics::Exposition) {
        self.reloads.expose(id, text);
        self.authorizer.expose(text);
        self.webhook_calls.expose(text);
        self.webhook_counts.expose(text);
        self.policy_counts.expose(text);
    }

    pub fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    pub fn authorizer(&self) -> &Chain {
        &self.authorizer
    }

    /// The way to webhooks and aggregated servers.
    pub fn outgoing(&self) -> &Arc<Outgoing> {
        &self.outgoing
    }

    /// The admission plug-ins that are on by default, in the order to run them in; `kinds` are all rows, as they
    /// are at any time.
    pub fn plugins(
        &self,
        kinds: &watch::Receiver<Arc<Kinds>>,
        pod_security: &Arc<admission::pod_security::Config>,
    ) -> Vec<Arc<dyn Plugin>> {
        let escalation = Escalation::new(Arc::clone(&self.rbac), Arc::clone(&self.authorizer));
        let mut plugins: Vec<Arc<dyn Plugin>> = vec![
            Arc::new(admission::SigningRequests::new(self.authenticator.clock())),
            Arc::new(admission::Devices::new(self.authenticator.clock())),
            Arc::new(admission::DeviceAccess::new(Arc::clone(&self.source), Arc::clone(&self.authorizer))),
            Arc::new(admission::PossessionOfKeys),
            Arc::new(admission::Signers::new(Arc::clone(&self.authorizer))),
        ];
        plugins.extend(admission::standard(
            &self.source,
            &self.outgoing,
            kinds,
            &self.authorizer,
            (&self.webhook_counts, &self.policy_counts),
            pod_security,
        ));
        plugins.push(Arc::new(escalation));
        let authorizer = Arc::clone(&self.authorizer);
        plugins.push(Arc::new(Initializers::new(Arc::clone(&self.source), authorizer, kinds.clone())));
        plugins.push(Arc::new(definitions::rules::Plugin));
        plugins
    }

    /// Answers an object of a kind that is only asked: the object with its status. `None` for other kinds.
    pub async fn review(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        user: &Identity,
        asked: Value,
    ) -> Option<Result<Value, Status>> {
        let authorizer = self.authorizer();
        Some(match (group, resource) {
            ("authentication.k8s.io", "tokenreviews") => {
                authn::token_review(&self.authenticator, asked).await
            }
            ("authentication.k8s.io", "selfsubjectreviews") => Ok(review::self_subject(user, asked)),
            ("authorization.k8s.io", "subjectaccessreviews") => {
                review::subject_access(authorizer, asked).await
            }
            ("authorization.k8s.io", "localsubjectaccessreviews") => {
                review::local_subject_access(authorizer, namespace, asked).await
            }
            ("authorization.k8s.io", "selfsubjectaccessreviews") => {
                review::self_subject_access(authorizer, user, asked).await
            }
            ("authorization.k8s.io", "selfsubjectrulesreviews") => {
                review::self_subject_rules(authorizer, user, asked)
            }
            _ => return None,
        })
    }

    /// Answers a `TokenRequest` for the service account `name`.
    ///
    /// # Errors
    /// What [`authn::token_request`] refuses.
    pub fn token(&self, namespace: &str, name: &str, request: Value) -> Result<Value, Status> {
        authn::token_request(self.authenticator.tokens(), namespace, name, request, self.authenticator.now())
    }

    /// What others need to verify this cluster's tokens, by path; `server` is `https://host:port`.
    pub fn document(&self, path: &str, server: &str) -> Option<Value> {
        let tokens = self.authenticator.tokens();
        match path {
            authn::OPENID_CONFIGURATION_PATH => Some(authn::openid_configuration(tokens, server)),
            authn::JWKS_PATH => Some(authn::jwks(tokens)),
            _ => None,
        }
    }

    /// What must be written for the cluster to have its default roles and bindings.
    pub fn policy(&self) -> Vec<policy::Change> {
        policy::plan(&*self.source)
    }
}

#[cfg(test)]
#[path = "security_tests.rs"]
mod tests;

//! The way to an API server that is another process: by a kubeconfig, or as a pod.

use std::{future::Future, path::Path, pin::Pin, sync::Arc, task, time::Duration};

use anyhow::{Context, Result};
use http::{HeaderValue, Request, Response, StatusCode, header};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, PostParams},
    client::Body,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use tiphys_apiserver::identity::Component;
use tiphys_client::{election::Fence, metrics::Counted};
use tiphys_pki::pem;
use tokio::{sync::Mutex, time::Instant};
use tower_service::Service;

use crate::{files, loops::Connect};

/// Where controllers have their service accounts.
const NAMESPACE: &str = "kube-system";
/// For how long tokens are asked for.
const TOKEN: Duration = Duration::from_secs(3600);

/// An API server elsewhere.
pub(crate) struct Remote {
    host: Arc<str>,
    port: u16,
    /// The identity of the kubeconfig.
    own: Client,
    /// No identity.
    anonymous: Client,
    /// By whom the server is known, in PEM; `None` if the host trusts it anyway.
    root_ca: Option<String>,
}

impl Remote {
    /// `file` is a kubeconfig; without one this has to be a pod of the cluster. `agent` is what the process calls itself.
    pub(crate) async fn open(file: Option<&Path>, agent: &Component) -> Result<Self> {
        let mut config = match file {
            Some(file) => {
                let named = || format!("the kubeconfig {}", file.display());
                let read = Kubeconfig::read_from(file).with_context(named)?;
                let options = KubeConfigOptions::default();
                Config::from_custom_kubeconfig(read, &options).await.with_context(named)?
            }
            None => {
                Config::incluster().context("no --kubeconfig is given, and this is no pod of a cluster")?
            }
        };
        // Who asks again may do twice what is to be done once; loops see for themselves what came of it.
        config.default_retry = false;
        let agent = HeaderValue::from_str(&agent.user_agent()).context("naming the program")?;
        config.headers.push((header::USER_AGENT, agent));
        let port = config.cluster_url.port_u16().unwrap_or(443);
        let authority = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
        let root_ca = match (&config.root_cert, &config.root_cert_file) {
            (Some(certificates), _) => Some(certificates.iter().map(|der| pem("CERTIFICATE", der)).collect()),
            (None, Some(file)) => Some(files::read_text(file)?),
            (None, None) => None,
        };
        let mut nobody = config.clone();
        nobody.auth_info = AuthInfo::default();
        nobody.headers.clear();
        let client = |config| Client::try_from(config).context("making a client of the API");
        Ok(Self { host: authority.into(), port, own: client(config)?, anonymous: client(nobody)?, root_ca })
    }

    /// The kubeconfig's own identity; its writes pass no fence.
    pub(crate) fn own(&self) -> Client {
        self.counted(Through(self.own.clone()))
    }

    /// Where the server listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn root_ca(&self) -> Option<&str> {
        self.root_ca.as_deref()
    }

    fn counted<S>(&self, service: S) -> Client
    where
        S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>> + Send + 'static,
        S::Future: Send + 'static,
    {
        Client::new(Counted::new(service, Arc::clone(&self.host)), "default")
    }

    /// Gives clients to loops. With `accounts` each controller works as its service account, by a token that the own
    /// identity asks for; else all work with the own identity.
    pub(crate) fn connect(self, accounts: bool) -> Connect {
        Arc::new(move |component, fence: &Fence| match component {
            Component::Controller(name) if accounts => {
                let account = Account {
                    anonymous: self.anonymous.clone(),
                    accounts: Api::namespaced(self.own(), NAMESPACE),
                    name,
                    agent: HeaderValue::from_str(&component.user_agent()).ok(),
                    token: Mutex::new(None),
                };
                self.counted(fence.guard(As(Arc::new(account))))
            }
            _ => self.counted(fence.guard(Through(self.own.clone()))),
        })
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

/// Sends requests through a client.
#[derive(Clone)]
struct Through(Client);

impl Service<Request<Body>> for Through {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), BoxError>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let client = self.0.clone();
        Box::pin(async move { client.send(request).await.map_err(Into::into) })
    }
}

/// A service account, and a token of it once one was needed.
struct Account {
    anonymous: Client,
    accounts: Api<ServiceAccount>,
    name: &'static str,
    agent: Option<HeaderValue>,
    /// And when another is due.
    token: Mutex<Option<(HeaderValue, Instant)>>,
}

impl Account {
    async fn token(&self) -> Result<HeaderValue, BoxError> {
        let mut known = self.token.lock().await;
        if let Some((token, due)) = &*known
            && Instant::now() < *due
        {
            return Ok(token.clone());
        }
        let asked = Instant::now();
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(TOKEN.as_secs().cast_signed()),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let params = PostParams::default();
        let made = match self.accounts.create_token_request(self.name, &params, &request).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                self.create().await?;
                self.accounts.create_token_request(self.name, &params, &request).await
            }
            made => made,
        };
        let status = made?.status.unwrap_or_default();
        let (Some(token), Some(end)) = (status.token, status.expiration_timestamp) else {
            return Err("the API has made no token".into());
        };
        let mut token = HeaderValue::from_str(&format!("Bearer {token}"))?;
        token.set_sensitive(true);
        let life = end.0.duration_since(jiff::Timestamp::now());
        // Nothing is asked for with a token whose end is near; a clock that is off makes it no older than asked for.
        let life = Duration::try_from(life).unwrap_or_default().min(TOKEN);
        *known = Some((token.clone(), asked + life.mul_f64(0.8)));
        Ok(token)
    }

    async fn create(&self) -> Result<(), kube::Error> {
        let metadata = ObjectMeta { name: Some(self.name.to_owned()), ..ObjectMeta::default() };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        match self.accounts.create(&PostParams::default(), &account).await {
            // Another was there first.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            made => made.map(drop),
        }
    }

    async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let token = self.token().await?;
        request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        if let Some(agent) = &self.agent {
            request.headers_mut().insert(header::USER_AGENT, agent.clone());
        }
        let answer = self.anonymous.send(request).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            // Its account may be another one by now. Whoever asked tries again.
            self.token.lock().await.take_if(|(known, _)| *known == token);
        }
        Ok(answer)
    }
}

/// Sends requests as an account.
#[derive(Clone)]
struct As(Arc<Account>);

impl Service<Request<Body>> for As {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), BoxError>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let account = Arc::clone(&self.0);
        Box::pin(async move { account.send(request).await })
    }
}

//! Calls of etcd: which of its servers is asked, what is tried again, and what is known after a failure.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tonic::{
    Code, ConnectError, Response, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{
    OpenError, Options,
    wire::{AlarmRequest, AlarmType, maintenance_client::MaintenanceClient},
};
use crate::Error;

/// How long one server may take to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(3);
/// What etcd takes of one request by default.
const MAX: usize = 3 << 19;
/// How often a connection is tried on which something is waited for, and how long that may take.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(5);
/// What may be under way to us of one answer and of all, so that a watcher who is slow holds nobody else up.
const WINDOW: u32 = 2 << 20;
const WINDOWS: u32 = 256 << 20;

/// The servers of one etcd.
#[derive(Debug)]
pub(super) struct Client {
    servers: Vec<(String, Channel)>,
    /// The one that answered last.
    current: AtomicUsize,
    patience: Duration,
}

/// What a server said in place of an answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{server}: {}", .status.message())]
pub(super) struct Refusal {
    server: String,
    status: Status,
}

/// What is known of a call that failed.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// No server was reached.
    Away(Refusal),
    /// A server has refused it.
    Refused(Refusal),
    /// It may have happened, or happen yet.
    Doubt(Refusal),
}

impl Failure {
    fn of(server: &str, status: Status) -> Self {
        let is_away = causes(&status).any(|cause| cause.is::<ConnectError>());
        let is_told = std::error::Error::source(&status).is_none();
        let code = status.code();
        let refusal = Refusal { server: server.to_owned(), status };
        match code {
            _ if is_away => Self::Away(refusal),
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
                if is_told =>
            {
                Self::Refused(refusal)
            }
            _ => Self::Doubt(refusal),
        }
    }

    /// A server has not said what it was asked for.
    pub(super) fn silence() -> Self {
        let status = Status::deadline_exceeded("no answer in time");
        Self::Doubt(Refusal { server: "etcd".to_owned(), status })
    }

    /// With which code a server has refused the call.
    pub(super) fn refused(&self) -> Option<Code> {
        match self {
            Self::Refused(refusal) => Some(refusal.status.code()),
            Self::Away(_) | Self::Doubt(_) => None,
        }
    }

    /// What a reader is told.
    pub(super) fn of_read(self, step: &'static str) -> Error {
        match self {
            Self::Away(why) | Self::Doubt(why) => Error::Unavailable { source: Arc::new(why) },
            Self::Refused(why) => Error::Engine { step, source: Arc::new(why) },
        }
    }
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(status), |cause| cause.source())
}

/// How long is waited before the next attempt.
pub(super) struct Delays(Duration);

impl Delays {
    const MAX: Duration = Duration::from_secs(2);

    pub(super) fn new() -> Self {
        Self(Duration::from_millis(20))
    }

    pub(super) async fn wait(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(Self::MAX);
    }
}

impl Client {
    pub(super) fn new(options: &Options) -> Result<Self, OpenError> {
        if options.servers.is_empty() {
            return Err(OpenError::NoServers);
        }
        let servers = options.servers.iter().map(|server| {
            let channel = endpoint(server, options)
                .map_err(|source| OpenError::Server { server: server.clone(), source: Arc::new(source) })?;
            Ok((server.clone(), channel.connect_lazy()))
        });
        let servers = servers.collect::<Result<_, OpenError>>()?;
        Ok(Self { servers, current: AtomicUsize::new(0), patience: options.patience })
    }

    /// Asks one server once. After a failure the next call asks the next server.
    pub(super) async fn once<T, C>(&self, call: impl Fn(Channel) -> C) -> Result<T, Failure>
    where
        C: Future<Output = Result<Response<T>, Status>>,
    {
        let at = self.current.load(Ordering::Relaxed);
        let (server, channel) = &self.servers[at % self.servers.len()];
        let answer = timeout(ANSWER, call(channel.clone())).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        let failure = match answer {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => Failure::of(server, status),
        };
        if failure.refused().is_none() {
            // Somebody else may have gone on to the next one already.
            let next = at.wrapping_add(1);
            let _ = self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        Err(failure)
    }

    /// Asks one server after the other, for as long as that may help.
    pub(super) async fn read<T, C>(&self, call: impl Fn(Channel) -> C) -> Result<T, Failure>
    where
        C: Future<Output = Result<Response<T>, Status>>,
    {
        self.insist(call, |failure| failure.refused().is_none()).await
    }

    /// The same for what must not happen twice: it is not tried again once a server may have heard of it.
    pub(super) async fn write<T, C>(&self, call: impl Fn(Channel) -> C) -> Result<T, Failure>
    where
        C: Future<Output = Result<Response<T>, Status>>,
    {
        self.insist(call, |failure| matches!(failure, Failure::Away(_))).await
    }

    async fn insist<T, C>(
        &self,
        call: impl Fn(Channel) -> C,
        is_worth_it: impl Fn(&Failure) -> bool,
    ) -> Result<T, Failure>
    where
        C: Future<Output = Result<Response<T>, Status>>,
    {
        let (begun, mut delays) = (Instant::now(), Delays::new());
        loop {
            match self.once(&call).await {
                Err(failure) if is_worth_it(&failure) && begun.elapsed() < self.patience => {
                    delays.wait().await;
                }
                answer => return answer,
            }
        }
    }

    /// What a writer is told whose request has so many bytes.
    pub(super) async fn of_write(&self, step: &'static str, failure: Failure, size: usize) -> Error {
        let code = failure.refused();
        match failure {
            Failure::Away(why) => Error::Unavailable { source: Arc::new(why) },
            Failure::Doubt(why) => Error::InDoubt { source: Arc::new(why) },
            Failure::Refused(why) if code == Some(Code::InvalidArgument) => {
                Error::TooLarge { source: Arc::new(why) }
            }
            // It is full, or overwhelmed, or the request is more than it reads.
            Failure::Refused(why) if code == Some(Code::ResourceExhausted) => {
                let source = Arc::new(why);
                match self.is_full().await {
                    true => Error::Full { source },
                    false if size > MAX => Error::TooLarge { source },
                    false => Error::Unavailable { source },
                }
            }
            Failure::Refused(why) => Error::Engine { step, source: Arc::new(why) },
        }
    }

    async fn is_full(&self) -> bool {
        let ask = |channel| async { MaintenanceClient::new(channel).alarm(AlarmRequest::default()).await };
        let alarms = self.once(ask).await.map(|answer| answer.alarms).unwrap_or_default();
        alarms.iter().any(|alarm| alarm.alarm() == AlarmType::Nospace)
    }
}

fn endpoint(server: &str, options: &Options) -> Result<Endpoint, tonic::transport::Error> {
    let url = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    let endpoint = Endpoint::from_shared(url)?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOWS);
    if endpoint.uri().scheme_str() != Some("https") {
        return Ok(endpoint);
    }
    let mut tls = ClientTlsConfig::new();
    tls = match &options.authority {
        Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
        None => tls.with_native_roots(),
    };
    if let Some((certificate, key)) = &options.identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    endpoint.tls_config(tls)
}

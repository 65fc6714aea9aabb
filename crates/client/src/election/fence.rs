//! Lets writes through for as long as their sender leads.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Method, Request, Response};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tower_service::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A write was not sent: its sender leads no more.
#[derive(Debug, thiserror::Error)]
#[error("the lease is lost; nothing is written any more")]
pub struct NotLeading;

#[derive(Debug)]
struct State {
    /// Writes pass before this; `None`: at any time.
    until: Option<Instant>,
    closed: bool,
    /// Writes that are under way.
    writing: usize,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    idle: Notify,
}

/// The permission to write. Clones are the same fence.
#[derive(Clone, Debug)]
pub struct Fence(Arc<Shared>);

impl Fence {
    /// One that is open until then, or without end.
    pub fn new(until: Option<Instant>) -> Self {
        let state = State { until, closed: false, writing: 0 };
        Self(Arc::new(Shared { state: Mutex::new(state), idle: Notify::new() }))
    }

    /// Moves the end of one that is open.
    pub(super) fn extend(&self, until: Option<Instant>) {
        self.0.state.lock().until = until;
    }

    /// Lets nothing more through, ever.
    pub fn close(&self) {
        self.0.state.lock().closed = true;
    }

    /// Waits until no write is under way.
    pub async fn idle(&self) {
        loop {
            let woken = self.0.idle.notified();
            if self.0.state.lock().writing == 0 {
                return;
            }
            woken.await;
        }
    }

    /// A service whose writes pass here.
    pub fn guard<S>(&self, service: S) -> Fenced<S> {
        Fenced { service, fence: self.clone() }
    }

    fn enter(&self) -> Result<Passage, NotLeading> {
        let mut state = self.0.state.lock();
        if state.closed || state.until.is_some_and(|until| until <= Instant::now()) {
            return Err(NotLeading);
        }
        state.writing += 1;
        Ok(Passage(self.clone()))
    }
}

/// A write that is under way.
struct Passage(Fence);

impl Drop for Passage {
    fn drop(&mut self) {
        let mut state = self.0.0.state.lock();
        state.writing -= 1;
        if state.writing == 0 {
            self.0.0.idle.notify_waiters();
        }
    }
}

/// See [`Fence::guard`]; `kube::Client::new` takes it.
#[derive(Clone)]
pub struct Fenced<S> {
    service: S,
    fence: Fence,
}

impl<S, A, B> Service<Request<A>> for Fenced<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let passage = match *request.method() {
            Method::GET | Method::HEAD => None,
            _ => match self.fence.enter() {
                Ok(passage) => Some(passage),
                Err(error) => return Box::pin(async move { Err(error.into()) }),
            },
        };
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await.map_err(Into::into);
            drop(passage);
            answer
        })
    }
}

#[cfg(test)]
#[path = "fence_tests.rs"]
mod tests;

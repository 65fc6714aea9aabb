//! A watch on its way to who asked for it.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{Body, BoxError, Broken, Lapse, Network, told};

/// Waits for a lapse of this collection.
async fn ended(lapse: &mut watch::Receiver<Option<Lapse>>, path: &str) {
    loop {
        // The network outlives its watches.
        drop(lapse.changed().await);
        if lapse.borrow_and_update().as_ref().is_some_and(|lapse| lapse.path == path) {
            return;
        }
    }
}

/// A watch on its way.
pub(super) struct Events {
    network: Arc<Network>,
    who: Arc<str>,
    path: String,
    body: Body,
    life: CancellationToken,
    up: CancellationToken,
    line: watch::Receiver<bool>,
    lapse: watch::Receiver<Option<Lapse>>,
    begun: Vec<u8>,
    ready: VecDeque<Bytes>,
    /// How much longer than others this one takes.
    slow: Duration,
    over: bool,
}

impl Events {
    pub(super) fn new(
        network: Arc<Network>,
        who: Arc<str>,
        path: String,
        body: Body,
        life: CancellationToken,
        up: CancellationToken,
        line: watch::Receiver<bool>,
    ) -> Self {
        let is_slow = network.faulty.load(Relaxed) && network.chance.one_in(12);
        let slow = if is_slow { network.chance.millis(200, 3000) } else { Duration::ZERO };
        let (begun, ready) = (Vec::new(), VecDeque::new());
        let mut lapse = network.lapse.subscribe();
        lapse.mark_unchanged();
        Self { network, who, path, body, life, up, line, lapse, begun, ready, slow, over: false }
    }

    pub(super) fn body(self) -> Body {
        let frames = stream::unfold(self, |mut events| async move {
            let next = events.next().await?;
            Some((next.map(Frame::data), events))
        });
        StreamBody::new(frames).boxed_unsync()
    }

    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if self.over {
                return None;
            }
            let piece = tokio::select! {
                biased;
                () = self.life.cancelled() => return pending().await,
                () = self.up.cancelled() => None,
                () = async { drop(self.line.wait_for(|cut| *cut).await) } => None,
                () = ended(&mut self.lapse, &self.path) => None,
                piece = self.body.frame() => match piece {
                    Some(Ok(frame)) => frame.into_data().ok(),
                    // The server has ended it in order.
                    Some(Err(_)) | None => {
                        self.over = true;
                        continue;
                    }
                },
            };
            let Some(piece) = piece else {
                self.over = true;
                return Some(Err(Broken::Reset.into()));
            };
            sleep(self.network.delay() + self.slow).await;
            if self.life.is_cancelled() {
                return pending().await;
            }
            self.take(&piece);
        }
    }

    /// Takes in what has come, and decides what of it arrives.
    fn take(&mut self, piece: &[u8]) {
        let Network { chance, trace, faulty, .. } = &*self.network;
        let faulty = faulty.load(Relaxed);
        self.begun.extend_from_slice(piece);
        while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).collect();
            if faulty && chance.one_in(150) {
                trace.step(format_args!("~ {} a watch breaks off", self.who));
                self.over = true;
                return;
            }
            let line = Bytes::from(line);
            trace.step(format_args!("~ {} {:016x}", self.who, told(&line)));
            if faulty && chance.one_in(60) {
                self.ready.push_back(line.clone());
            }
            self.ready.push_back(line);
        }
    }
}

//! Watches: a cursor each, and no queue.

use std::sync::Arc;

use futures::{StreamExt, stream};
use tokio::sync::watch;

use crate::{
    Batch, Error, Events, Revision,
    engine::{Engine, Head, Medium},
};

/// The most steps that one batch takes from the tail.
const STEPS: usize = 256;

struct Cursor<M> {
    engine: Arc<Engine<M>>,
    head: watch::Receiver<Head>,
    prefix: Arc<str>,
    at: Revision,
}

/// Every event under `prefix` later than `after`.
pub(crate) fn events<M: Medium>(
    engine: Arc<Engine<M>>,
    head: watch::Receiver<Head>,
    prefix: &str,
    after: Revision,
) -> Events {
    let cursor = Cursor { engine, head, prefix: prefix.into(), at: after };
    stream::unfold(Some(cursor), |cursor| async move {
        let mut cursor = cursor?;
        match cursor.next().await {
            Ok(batch) => {
                cursor.at = batch.revision;
                Some((Ok(batch), Some(cursor)))
            }
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

impl<M: Medium> Cursor<M> {
    async fn next(&mut self) -> Result<Batch, Error> {
        loop {
            let newest = self.head.borrow_and_update().revision()?;
            if newest > self.at {
                return self.read(newest).await;
            }
            self.head.changed().await.map_err(|_| Error::Closed)?;
        }
    }

    async fn read(&self, newest: Revision) -> Result<Batch, Error> {
        let Some(steps) = self.engine.tail().after(self.at, STEPS) else {
            let (after, prefix) = (self.at, Arc::clone(&self.prefix));
            return self.engine.read(move |engine| engine.history(&prefix, after, newest)).await?;
        };
        let events = steps.iter().flat_map(|step| &step.events);
        let events = events.filter(|e| e.key.as_str().starts_with(&*self.prefix)).cloned().collect();
        Ok(Batch { events, revision: steps.last().map_or(newest, |step| step.revision) })
    }
}

//! What every client of the API shares: informers, the work queue, expectations, back-off, events.

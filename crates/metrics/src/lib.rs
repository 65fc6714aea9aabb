//! Counters and histograms that cost nanoseconds, and the text that Prometheus reads.
//!
//! Whoever counts holds an atomic or a [`Histogram`], by itself or in a [`Table`] with one for each set of labels.
//! Nothing is locked and no label is written until somebody asks: then an [`Exposition`] is made of what was counted.

mod exposition;
mod histogram;
mod process;
mod table;

pub use exposition::{Exposition, Format, Kind, Labels};
pub use histogram::Histogram;
pub use process::process;
pub use table::Table;

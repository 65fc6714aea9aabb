//! Who did what: `audit.k8s.io`.

mod annotations;

pub use annotations::Annotations;

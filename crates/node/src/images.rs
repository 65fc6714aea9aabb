//! Sees to it that a container's image is there before the container is made.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod};
use parking_lot::Mutex;
use tiphys_client::Recorder;
use tiphys_cri::v1;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use crate::content::Content;
use crate::credentials;

/// Pulls that run at once on this node.
const PARALLEL: usize = 3;

/// Why there is no image. `reason` is the API's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The name is none.
    #[error(
        "Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": invalid reference format"
    )]
    InvalidName {
        /// As written.
        image: String,
    },
    /// The policy forbids to pull what is not there.
    #[error("Container image \"{image}\" is not present with pull policy of Never")]
    NeverPull {
        /// As written.
        image: String,
    },
    /// The runtime did not say whether it is there.
    #[error("Failed to inspect image \"{image}\": {message}")]
    Inspect {
        /// As written.
        image: String,
        /// What the runtime said.
        message: String,
    },
    /// The pull failed.
    #[error("{message}")]
    Pull {
        /// What the runtime said.
        message: String,
    },
}

impl ImageError {
    /// The reason that a waiting container shows.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidName { .. } => "InvalidImageName",
            Self::NeverPull { .. } => "ErrImageNeverPull",
            Self::Inspect { .. } => "ImageInspectError",
            Self::Pull { .. } => "ErrImagePull",
        }
    }
}

/// An image that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Present {
    /// How the runtime wants it named when a container is made.
    pub reference: String,
    /// Its facts.
    pub image: v1::Image,
}

/// Pulls images for all pods of a node. One pull an image at a time, [`PARALLEL`] in all.
#[derive(Clone)]
pub struct Images {
    cri: tiphys_cri::Client,
    events: Recorder,
    slots: Arc<Semaphore>,
    pulling: Arc<Mutex<HashMap<String, Arc<AsyncMutex<()>>>>>,
}

impl Images {
    /// Over the runtime's image service.
    pub fn new(cri: tiphys_cri::Client, events: Recorder) -> Self {
        Self { cri, events, slots: Arc::new(Semaphore::new(PARALLEL)), pulling: Arc::default() }
    }

    /// Makes sure of a container's image by its pull policy. Says so in events about `about`.
    pub async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        secrets: &[Arc<Content>],
        sandbox: &v1::PodSandboxConfig,
        about: &ObjectReference,
    ) -> Result<Present, ImageError> {
        let written = container.image.clone().unwrap_or_default();
        let image = with_tag(&written).ok_or_else(|| {
            let error = ImageError::InvalidName { image: written.clone() };
            self.events.warning(about, "InspectFailed", error.to_string());
            error
        })?;
        let annotations = pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect();
        let spec = v1::ImageSpec {
            image,
            user_specified_image: written.clone(),
            annotations,
            ..v1::ImageSpec::default()
        };
        let policy = pull_policy(container, &spec.image);
        let lock = {
            let mut pulling = self.pulling.lock();
            pulling.retain(|_, lock| Arc::strong_count(lock) > 1);
            pulling.entry(spec.image.clone()).or_default().clone()
        };
        let _turn = lock.lock().await;
        let present = self.status(&spec, &written).await.inspect_err(|error| {
            self.events.warning(about, "InspectFailed", error.to_string());
        })?;
        match (present, policy) {
            (Some(image), Policy::IfNotPresent | Policy::Never) => {
                let message = format!("Container image \"{written}\" already present on machine");
                self.events.normal(about, "Pulled", message);
                Ok(Present { reference: image.id.clone(), image })
            }
            (None, Policy::Never) => {
                let error = ImageError::NeverPull { image: written };
                self.events.warning(about, "ErrImageNeverPull", error.to_string());
                Err(error)
            }
            _ => self.pull(spec, &written, secrets, sandbox, about).await,
        }
    }

    async fn status(&self, spec: &v1::ImageSpec, written: &str) -> Result<Option<v1::Image>, ImageError> {
        let request = v1::ImageStatusRequest { image: Some(spec.clone()), verbose: false };
        match self.cri.images().image_status(request).await {
            Ok(response) => Ok(response.into_inner().image),
            Err(status) => {
                Err(ImageError::Inspect { image: written.to_owned(), message: status.message().to_owned() })
            }
        }
    }

    async fn pull(
        &self,
        spec: v1::ImageSpec,
        written: &str,
        secrets: &[Arc<Content>],
        sandbox: &v1::PodSandboxConfig,
        about: &ObjectReference,
    ) -> Result<Present, ImageError> {
        self.events.normal(about, "Pulling", format!("Pulling image \"{written}\""));
        let asked = Instant::now();
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await;
        let began = Instant::now();
        let mut credentials: Vec<Option<v1::AuthConfig>> =
            credentials::matching(&spec.image, secrets.iter().map(AsRef::as_ref))
                .into_iter()
                .map(Some)
                .collect();
        if credentials.is_empty() {
            credentials.push(None);
        }
        let mut messages = Vec::new();
        for auth in credentials {
            let request = v1::PullImageRequest {
                image: Some(spec.clone()),
                auth,
                sandbox_config: Some(sandbox.clone()),
            };
            match self.cri.images().pull_image(request).await {
                Ok(response) => {
                    let reference = response.into_inner().image_ref;
                    let image = self.status(&spec, written).await?.unwrap_or_default();
                    self.events.normal(
                        about,
                        "Pulled",
                        pulled(written, began.elapsed(), asked.elapsed(), image.size),
                    );
                    return Ok(Present { reference, image });
                }
                Err(status) => messages.push(status.message().to_owned()),
            }
        }
        let message = messages.join(", ");
        self.events.warning(about, "Failed", format!("Failed to pull image \"{written}\": {message}"));
        Err(ImageError::Pull { message: format!("failed to pull image \"{written}\": {message}") })
    }
}

fn pulled(image: &str, took: Duration, with_wait: Duration, size: u64) -> String {
    let text = |d: Duration| {
        if d.as_secs() > 0 { format!("{:.3}s", d.as_secs_f64()) } else { format!("{}ms", d.as_millis()) }
    };
    format!(
        "Successfully pulled image \"{image}\" in {} ({} including waiting). Image size: {size} bytes.",
        text(took),
        text(with_wait)
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Always,
    IfNotPresent,
    Never,
}

fn pull_policy(container: &Container, image: &str) -> Policy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => Policy::Always,
        Some("Never") => Policy::Never,
        Some("IfNotPresent") => Policy::IfNotPresent,
        _ if image.ends_with(":latest") => Policy::Always,
        _ => Policy::IfNotPresent,
    }
}

/// The image's name with `:latest` where it has neither tag nor digest; `None` for what is no name.
fn with_tag(image: &str) -> Option<String> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let host_and_rest: Vec<&str> = path.split('/').collect();
    let has_host =
        host_and_rest.len() > 1 && (host_and_rest[0].contains(['.', ':']) || host_and_rest[0] == "localhost");
    let component = |c: &&str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        edge(c.chars().next()) && edge(c.chars().next_back()) && c.chars().all(inner)
    };
    let host = |h: &str| {
        !h.is_empty()
            && h.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '[' | ']'))
    };
    let names = &host_and_rest[usize::from(has_host)..];
    let tag_fits = |t: &str| {
        !t.is_empty()
            && t.len() <= 128
            && !t.starts_with(['.', '-'])
            && t.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
    };
    let digest_fits = |d: &str| {
        d.split_once(':').is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty() && hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit())
        })
    };
    let fits = !names.is_empty()
        && names.iter().all(component)
        && (!has_host || host(host_and_rest[0]))
        && tag.is_none_or(tag_fits)
        && digest.is_none_or(digest_fits);
    if !fits {
        return None;
    }
    Some(if tag.is_none() && digest.is_none() { format!("{image}:latest") } else { image.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_a_tag_and_nonsense_is_refused() {
        let digest = format!("a/b@sha256:{}", "0".repeat(64));
        for (image, want) in [
            ("nginx", Some("nginx:latest")),
            ("nginx:1.2", Some("nginx:1.2")),
            ("localhost:5000/a/b", Some("localhost:5000/a/b:latest")),
            ("127.0.0.1:5000/a:v1", Some("127.0.0.1:5000/a:v1")),
            (digest.as_str(), Some(digest.as_str())),
            ("", None),
            ("UPPER", None),
            ("a b", None),
            ("a//b", None),
            ("a:", None),
            ("a:bad tag", None),
            ("a@sha256:xyz", None),
            (":x", None),
        ] {
            assert_eq!(with_tag(image).as_deref(), want, "{image:?}");
        }
    }

    #[test]
    fn the_policy_follows_the_tag_where_none_is_given() {
        let c = |policy: Option<&str>| Container {
            image_pull_policy: policy.map(str::to_owned),
            ..Container::default()
        };
        assert_eq!(pull_policy(&c(None), "a:latest"), Policy::Always);
        assert_eq!(pull_policy(&c(None), "a:1"), Policy::IfNotPresent);
        assert_eq!(pull_policy(&c(Some("Never")), "a:latest"), Policy::Never);
    }
}

//! Volumes whose files show content from the API: configMap, secret, downwardAPI and projected, as one kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use k8s_openapi::api::core::v1::{
    ClusterTrustBundleProjection, Container, DownwardAPIVolumeFile, KeyToPath, Pod, PodCertificateProjection,
    ServiceAccountTokenProjection, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{FileContent, Files};
use crate::bundles::{self, Bundle, BundleError};
use crate::certificates::{CertificateError, Place, Shown};
use crate::content::{ContentId, Contents, Kind};
use crate::fields::{self, Addresses, FieldError};
use crate::pod;

/// Why the files of a projection can't be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProjectionError {
    /// An object that is not optional is missing.
    #[error("{} \"{}\" not found", .0.kind.lower(), .0.name)]
    NoObject(ContentId),
    /// A key that is not optional is missing.
    #[error("{} references non-existent config key: {key}", .kind.lower())]
    NoKey {
        /// Of what.
        kind: Kind,
        /// Its name.
        key: String,
    },
    /// A reference to the pod itself has no value.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Trust anchors can't be had.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A certificate can't be had.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// No token could be had.
    #[error("failed to fetch token: {0}")]
    Token(String),
    /// A source of a kind that is not built.
    #[error("a projected source is of a kind that this node does not support")]
    Unsupported,
}

/// One thing that gives files.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Keys of a ConfigMap or Secret.
    Object {
        /// Which.
        id: ContentId,
        /// The keys and their paths; all keys under their names when empty.
        items: Vec<KeyToPath>,
        /// Whether it may be missing.
        optional: bool,
    },
    /// Facts about the pod.
    Downward(Vec<DownwardAPIVolumeFile>),
    /// A token of the pod's service account.
    Token(ServiceAccountTokenProjection),
    /// Trust anchors of ClusterTrustBundles.
    Trust(ClusterTrustBundleProjection),
    /// A key and a certificate for it.
    Certificate(Place, PodCertificateProjection),
    /// Something that is not built.
    Unsupported,
}

/// A volume of this kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// Upstream's name of the driver, part of the directory's name.
    pub plugin: &'static str,
    /// Where files come from.
    pub sources: Vec<Source>,
    /// Permission bits of files that name none.
    pub default_mode: u32,
    /// Whether its content must stay off disks.
    pub in_memory: bool,
}

/// The projection behind a volume, if it is one.
pub fn of(pod: &Pod, volume: &Volume) -> Option<Projection> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let object = |kind, name: Option<&String>, items: &Option<Vec<KeyToPath>>, optional: Option<bool>| {
        Source::Object {
            id: ContentId { kind, namespace: namespace.clone(), name: name.cloned().unwrap_or_default() },
            items: items.clone().unwrap_or_default(),
            optional: optional.unwrap_or(false),
        }
    };
    let mode = |m: Option<i32>| m.and_then(|m| u32::try_from(m).ok()).unwrap_or(0o644) & 0o777;
    if let Some(c) = &volume.config_map {
        let sources = vec![object(Kind::ConfigMap, Some(&c.name), &c.items, c.optional)];
        return Some(Projection {
            plugin: "configmap",
            sources,
            default_mode: mode(c.default_mode),
            in_memory: false,
        });
    }
    if let Some(s) = &volume.secret {
        let sources = vec![object(Kind::Secret, s.secret_name.as_ref(), &s.items, s.optional)];
        return Some(Projection {
            plugin: "secret",
            sources,
            default_mode: mode(s.default_mode),
            in_memory: true,
        });
    }
    if let Some(d) = &volume.downward_api {
        let sources = vec![Source::Downward(d.items.clone().unwrap_or_default())];
        return Some(Projection {
            plugin: "downward-api",
            sources,
            default_mode: mode(d.default_mode),
            in_memory: true,
        });
    }
    let projected = volume.projected.as_ref()?;
    let sources = projected.sources.iter().flatten().enumerate().map(|(number, s)| {
        if let Some(c) = &s.config_map {
            object(Kind::ConfigMap, Some(&c.name), &c.items, c.optional)
        } else if let Some(c) = &s.secret {
            object(Kind::Secret, Some(&c.name), &c.items, c.optional)
        } else if let Some(d) = &s.downward_api {
            Source::Downward(d.items.clone().unwrap_or_default())
        } else if let Some(t) = &s.service_account_token {
            Source::Token(t.clone())
        } else if let Some(trust) = &s.cluster_trust_bundle {
            Source::Trust(trust.clone())
        } else if let Some(certificate) = &s.pod_certificate {
            Source::Certificate(Place { volume: volume.name.clone(), source: number }, certificate.clone())
        } else {
            Source::Unsupported
        }
    });
    Some(Projection {
        plugin: "projected",
        sources: sources.collect(),
        default_mode: mode(projected.default_mode),
        in_memory: true,
    })
}

/// What files are made from.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// ConfigMaps and Secrets.
    pub contents: &'a Contents,
    /// Tokens by (audience, lifetime in seconds).
    pub tokens: &'a BTreeMap<TokenKey, String>,
    /// All ClusterTrustBundles, where one is asked for.
    pub bundles: &'a [Arc<Bundle>],
    /// The pod's certificates.
    pub certificates: &'a BTreeMap<Place, Shown>,
    /// Addresses of pod and node.
    pub addresses: Addresses<'a>,
    /// What the node has for pods.
    pub allocatable: &'a BTreeMap<String, Quantity>,
}

/// What tells a pod's tokens apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenKey {
    /// Whom the token is for; empty for the API server itself.
    pub audience: String,
    /// Asked-for lifetime.
    pub seconds: i64,
}

impl TokenKey {
    /// The key of a projection; an hour unless it says otherwise.
    pub fn of(token: &ServiceAccountTokenProjection) -> Self {
        Self {
            audience: token.audience.clone().unwrap_or_default(),
            seconds: token.expiration_seconds.unwrap_or(3600),
        }
    }
}

/// Makes the files of a projection.
pub fn files(pod: &Pod, projection: &Projection, with: &Surroundings<'_>) -> Result<Files, ProjectionError> {
    let mut files = Files::new();
    let owner = sole_user(pod);
    let shared = owner.is_none() && super::fs_group(pod).is_none();
    let private =
        FileContent { data: Bytes::new(), mode: if shared { projection.default_mode } else { 0o600 }, owner };
    let mode_of =
        |own: Option<i32>| own.and_then(|m| u32::try_from(m).ok()).unwrap_or(projection.default_mode) & 0o777;
    for source in &projection.sources {
        match source {
            Source::Object { id, items, optional } => {
                let Some(Some(content)) = with.contents.get(id) else {
                    if *optional {
                        continue;
                    }
                    return Err(ProjectionError::NoObject(id.clone()));
                };
                if items.is_empty() {
                    for (key, data) in &content.data {
                        let file =
                            FileContent { data: data.clone(), mode: projection.default_mode, owner: None };
                        files.insert(key.clone(), file);
                    }
                }
                for item in items {
                    match content.data.get(&item.key) {
                        Some(data) => {
                            let file =
                                FileContent { data: data.clone(), mode: mode_of(item.mode), owner: None };
                            files.insert(normal(&item.path), file);
                        }
                        None if *optional => {}
                        None => return Err(ProjectionError::NoKey { kind: id.kind, key: item.key.clone() }),
                    }
                }
            }
            Source::Downward(items) => {
                for item in items {
                    let data = downward(pod, item, with)?;
                    let file = FileContent { data: Bytes::from(data), mode: mode_of(item.mode), owner: None };
                    files.insert(normal(&item.path), file);
                }
            }
            Source::Token(token) => {
                let key = TokenKey::of(token);
                let value =
                    with.tokens.get(&key).ok_or_else(|| ProjectionError::Token("not requested".into()))?;
                let data = Bytes::copy_from_slice(value.as_bytes());
                files.insert(normal(&token.path), FileContent { data, ..private.clone() });
            }
            Source::Trust(trust) => {
                let data = bundles::anchors(with.bundles, trust)?;
                files.insert(normal(&trust.path), FileContent { data, ..private.clone() });
            }
            Source::Certificate(place, wanted) => {
                let Shown { key, chain } = with.certificates.get(place).ok_or(CertificateError::NotIssued)?;
                for (path, data) in [
                    (&wanted.credential_bundle_path, [key.as_str(), chain].concat()),
                    (&wanted.key_path, key.clone()),
                    (&wanted.certificate_chain_path, chain.clone()),
                ] {
                    if let Some(path) = path.as_deref().filter(|path| !path.is_empty()) {
                        files.insert(normal(path), FileContent { data: data.into(), ..private.clone() });
                    }
                }
            }
            Source::Unsupported => return Err(ProjectionError::Unsupported),
        }
    }
    Ok(files)
}

fn normal(path: &str) -> String {
    path.split('/').filter(|p| !p.is_empty() && *p != ".").collect::<Vec<_>>().join("/")
}

fn downward(
    pod: &Pod,
    item: &DownwardAPIVolumeFile,
    with: &Surroundings<'_>,
) -> Result<String, ProjectionError> {
    if let Some(field) = &item.field_ref {
        return Ok(fields::field(pod, with.addresses, &field.field_path)?);
    }
    let Some(resource) = &item.resource_field_ref else { return Err(ProjectionError::Unsupported) };
    let nobody = Container::default();
    Ok(fields::resource(pod, &nobody, resource, with.allocatable)?)
}

/// The user that all containers of the pod run as, if they agree: a token may then be theirs alone.
fn sole_user(pod: &Pod) -> Option<u32> {
    let of_pod = pod::spec(pod).security_context.as_ref().and_then(|s| s.run_as_user);
    let mut users = pod::init_containers(pod)
        .chain(pod::main_containers(pod))
        .map(|c| c.spec.security_context.as_ref().and_then(|s| s.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|u| u == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}

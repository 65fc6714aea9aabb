//! Pulling from registries.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use futures::{StreamExt, TryStreamExt};
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tiphys_cri::v1::AuthConfig;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::store::{MAX_DOCUMENT_BYTES, Store};
use super::{ImageRecord, parse_name};
use crate::error::{Error, RegistryFailure, Result};
use crate::files;

/// How many layers are fetched at once.
const CONCURRENT_LAYERS: usize = 3;
/// How often a layer's transfer is taken up again where it broke off.
const ATTEMPTS: u32 = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a registry may send nothing.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest compressed layer.
const MAX_LAYER_BYTES: u64 = 32 << 30;

/// How a registry is told who asks.
#[derive(Clone, Debug, Default)]
pub struct Credentials(Option<RegistryAuth>);

/// How far a pull has come: bytes that were fetched of all that must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullProgress {
    pub fetched: u64,
    pub total: u64,
}

/// One pull of one image.
pub struct Pull {
    store: Arc<Store>,
    reference: Reference,
    auth: RegistryAuth,
    client: Client,
}

impl Credentials {
    /// A user's name and password.
    pub fn basic(user: &str, password: &str) -> Self {
        Self(Some(RegistryAuth::Basic(user.to_owned(), password.to_owned())))
    }

    /// What CRI gives: a token, name and password, or both in one base64 string.
    ///
    /// # Errors
    /// [`Error::Invalid`] when that string isn't `name:password`.
    pub fn from_cri(auth: AuthConfig) -> Result<Self> {
        if !auth.registry_token.is_empty() {
            return Ok(Self(Some(RegistryAuth::Bearer(auth.registry_token))));
        }
        if !auth.username.is_empty() {
            return Ok(Self::basic(&auth.username, &auth.password));
        }
        if auth.auth.is_empty() {
            return Ok(Self::default());
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(auth.auth.trim_end()).ok();
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = text.as_ref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
        let (user, password) =
            pair.ok_or_else(|| Error::Invalid("auth isn't base64 of a name, ':' and a password".into()))?;
        Ok(Self::basic(user, password))
    }
}

impl Pull {
    /// Prepares to pull `name` into `store`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that can't be one.
    pub fn new(store: Arc<Store>, name: &str, credentials: Credentials) -> Result<Self> {
        let reference = parse_name(name)?;
        let registry = reference.resolve_registry();
        let protocol = if is_loopback(registry) { ClientProtocol::Http } else { ClientProtocol::Https };
        // The TLS library is built without a default; that somebody chose one before is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::new(ClientConfig {
            protocol,
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            user_agent: concat!("tiphys/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        });
        let auth = credentials.0.unwrap_or(RegistryAuth::Anonymous);
        Ok(Self { store, reference, auth, client })
    }

    /// Pulls the image: the manifest for this machine, its configuration, and those layers that aren't here yet.
    /// What a broken pull leaves counts as nothing.
    ///
    /// # Errors
    /// [`Error::Registry`] with why the registry didn't give it; [`Error::Digest`] and [`Error::Archive`] for
    /// content that isn't what it says it is; [`Error::Io`] for the disk.
    pub async fn run(&self, progress: &(dyn Fn(PullProgress) + Sync)) -> Result<ImageRecord> {
        let failed = |error| self.failed(error);
        self.client.auth(&self.reference, &self.auth, RegistryOperation::Pull).await.map_err(failed)?;
        let pulled = self.client.pull_image_manifest_and_list_digest(&self.reference, &self.auth).await;
        let (manifest, digest, list_digest) = pulled.map_err(failed)?;
        let config = self.config(&manifest.config).await?;
        let diffs = Store::diffs_of(&config)?;
        if diffs.len() != manifest.layers.len() {
            let text =
                format!("{} layers, but the configuration names {}", manifest.layers.len(), diffs.len());
            return Err(Error::Archive(text));
        }
        let dir = self.store.ingest_path();
        files::create_dir(&dir)?;
        let added = self.fetch_and_add(
            &dir,
            &manifest.layers,
            &diffs,
            config,
            list_digest.unwrap_or(digest),
            progress,
        );
        let added = added.await;
        files::remove_dir(&dir)?;
        added
    }

    async fn fetch_and_add(
        &self,
        dir: &Path,
        layers: &[OciDescriptor],
        diffs: &[String],
        config: Vec<u8>,
        digest: String,
        progress: &(dyn Fn(PullProgress) + Sync),
    ) -> Result<ImageRecord> {
        let chain = Store::chain_of(diffs);
        let mut missing = Vec::new();
        for (position, layer) in layers.iter().enumerate() {
            if !self.store.has_layer(&chain[position])? {
                missing.push((layer.clone(), dir.join(format!("{position}"))));
            }
        }
        let size = |layer: &OciDescriptor| u64::try_from(layer.size).unwrap_or(0);
        let total = missing.iter().map(|(layer, _)| size(layer)).sum();
        let fetched = Mutex::new(0);
        let report = |bytes: u64| {
            let mut fetched = fetched.lock();
            *fetched += bytes;
            progress(PullProgress { fetched: *fetched, total });
        };
        let report = &report;
        futures::stream::iter(missing)
            .map(|(layer, path)| async move { self.layer(&layer, &path, report).await })
            .buffer_unordered(CONCURRENT_LAYERS)
            .try_collect::<()>()
            .await?;

        let (registry, repository) = (self.reference.registry(), self.reference.repository());
        let names = match self.reference.tag() {
            Some(tag) => vec![format!("{registry}/{repository}:{tag}")],
            None => Vec::new(),
        };
        let digests = vec![format!("{registry}/{repository}@{digest}")];
        let paths: Vec<PathBuf> = (0..layers.len()).map(|position| dir.join(format!("{position}"))).collect();
        let store = self.store.clone();
        crate::sandbox::blocking(move || store.add(&config, &paths, &names, &digests, false, &mut |_, _| {}))
            .await
    }

    async fn config(&self, descriptor: &OciDescriptor) -> Result<Vec<u8>> {
        let mut stream = self
            .client
            .pull_blob_stream(&self.reference, descriptor)
            .await
            .map_err(|error| self.failed(error))?;
        let mut config = Vec::new();
        while let Some(chunk) = stream.stream.next().await {
            let chunk = chunk.map_err(|error| self.interrupted(&error))?;
            if (config.len() + chunk.len()) as u64 > MAX_DOCUMENT_BYTES {
                return Err(Error::Archive(format!(
                    "configuration is larger than {MAX_DOCUMENT_BYTES} bytes"
                )));
            }
            config.extend_from_slice(&chunk);
        }
        check("configuration", &descriptor.digest, &format!("sha256:{:x}", Sha256::digest(&config)))?;
        Ok(config)
    }

    /// Fetches one layer to `path`, taking up a transfer that broke off where it did.
    async fn layer(&self, layer: &OciDescriptor, path: &Path, report: &(dyn Fn(u64) + Sync)) -> Result<()> {
        let mut file = tokio::fs::File::create(path).await.map_err(Error::io("create", path))?;
        let mut hash = Sha256::new();
        let mut offset = 0;
        let mut attempt = 1;
        loop {
            match self.transfer(layer, path, &mut file, &mut hash, &mut offset, report).await {
                Ok(()) => break,
                Err(Error::Registry { kind: RegistryFailure::Unreachable, .. }) if attempt < ATTEMPTS => {
                    attempt += 1
                }
                Err(error) => return Err(error),
            }
        }
        file.flush().await.map_err(Error::io("write", path))?;
        check("layer", &layer.digest, &format!("sha256:{:x}", hash.finalize()))
    }

    async fn transfer(
        &self,
        layer: &OciDescriptor,
        path: &Path,
        file: &mut tokio::fs::File,
        hash: &mut Sha256,
        offset: &mut u64,
        report: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        let answer = self.client.pull_blob_stream_partial(&self.reference, layer, *offset, None).await;
        let stream = match answer.map_err(|error| self.failed(error))? {
            BlobResponse::Partial(stream) => stream,
            BlobResponse::Full(stream) => {
                // A registry that doesn't know ranges starts over.
                file.set_len(0).await.map_err(Error::io("truncate", path))?;
                file.seek(std::io::SeekFrom::Start(0)).await.map_err(Error::io("rewind", path))?;
                *hash = Sha256::new();
                *offset = 0;
                stream
            }
        };
        let mut stream = stream.stream;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| self.interrupted(&error))?;
            *offset += chunk.len() as u64;
            if *offset > MAX_LAYER_BYTES {
                return Err(Error::Archive(format!("layer is larger than {MAX_LAYER_BYTES} bytes")));
            }
            hash.update(&chunk);
            file.write_all(&chunk).await.map_err(Error::io("write", path))?;
            report(chunk.len() as u64);
        }
        Ok(())
    }

    fn interrupted(&self, error: &dyn std::error::Error) -> Error {
        self.registry(RegistryFailure::Unreachable, error.to_string())
    }

    fn registry(&self, kind: RegistryFailure, message: String) -> Error {
        Error::Registry { image: self.reference.whole(), kind, message }
    }

    fn failed(&self, error: OciDistributionError) -> Error {
        use OciDistributionError as E;
        let kind = match &error {
            E::ImageManifestNotFoundError(_) => RegistryFailure::Missing,
            E::UnauthorizedError { .. } | E::AuthenticationFailure(_) => RegistryFailure::Denied,
            E::ServerError { code: 404, .. } => RegistryFailure::Missing,
            E::ServerError { code: 401 | 403, .. } => RegistryFailure::Denied,
            E::ServerError { .. } | E::RequestError(_) | E::IoError(_) => RegistryFailure::Unreachable,
            E::RegistryError { envelope, .. } => {
                let code = envelope.errors.first().map(|error| &error.code);
                match code {
                    Some(
                        OciErrorCode::ManifestUnknown
                        | OciErrorCode::NameUnknown
                        | OciErrorCode::NotFound
                        | OciErrorCode::BlobUnknown,
                    ) => RegistryFailure::Missing,
                    Some(OciErrorCode::Denied | OciErrorCode::Unauthorized) => RegistryFailure::Denied,
                    Some(OciErrorCode::Toomanyrequests) => RegistryFailure::Unreachable,
                    _ => RegistryFailure::Unusable,
                }
            }
            _ => RegistryFailure::Unusable,
        };
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            message = format!("{message}: {inner}");
            cause = inner.source();
        }
        self.registry(kind, message)
    }
}

fn check(what: &str, expected: &str, found: &str) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Digest { what: what.to_owned(), expected: expected.to_owned(), found: found.to_owned() })
}

/// Whether the registry is on this machine, where TLS would protect nothing.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[path = "pull_tests.rs"]
mod tests;

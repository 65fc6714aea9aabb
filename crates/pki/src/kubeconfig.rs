//! Kubeconfig files: where a cluster is and who one is there.

use std::{fmt::Write, path::Path, time::SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    authority::{Authority, Credential, seconds},
    error::Result,
    file,
    leaf::Leaf,
};

/// What a kubeconfig says besides certificates.
#[derive(Clone, Copy, Debug)]
pub struct Kubeconfig<'a> {
    /// What the cluster is called in the file.
    pub cluster: &'a str,
    /// What the user is called in the file.
    pub user: &'a str,
    /// `https://host:port`.
    pub server: &'a str,
}

impl Kubeconfig<'_> {
    /// The file's text, in YAML.
    pub fn render(&self, authority: &Authority, credential: &Credential) -> String {
        let Self { cluster, user, server } = self;
        let context = format!("{user}@{cluster}");
        let mut out = String::from("apiVersion: v1\nkind: Config\n");
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "clusters:\n- name: {}\n  cluster:\n    server: {}\n    certificate-authority-data: {}\n\
             users:\n- name: {}\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n\
             contexts:\n- name: {}\n  context:\n    cluster: {}\n    user: {}\ncurrent-context: {}\n",
            quoted(cluster),
            quoted(server),
            STANDARD.encode(authority.pem()),
            quoted(user),
            STANDARD.encode(&credential.certificate_pem),
            STANDARD.encode(&credential.key_pem),
            quoted(&context),
            quoted(cluster),
            quoted(user),
            quoted(&context),
        );
        out
    }

    /// Sees to it that the file at `path` (mode 0600) leads to this server with a certificate for `leaf` of
    /// which at least half the life remains. Returns whether it was written; one that serves is left alone.
    pub fn ensure(&self, path: &Path, authority: &Authority, leaf: &Leaf, now: SystemTime) -> Result<bool> {
        if let Some(text) = file::read(path)?
            && self.serves(&text, authority, leaf, now)
        {
            return Ok(false);
        }
        let credential = authority.issue(leaf, now)?;
        file::write_private(path, self.render(authority, &credential).as_bytes())?;
        Ok(true)
    }

    fn serves(&self, text: &str, authority: &Authority, leaf: &Leaf, now: SystemTime) -> bool {
        let field = |name: &str| {
            text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": ").map(str::trim))
        };
        field("server") == Some(quoted(self.server).as_str())
            && field("certificate-authority-data") == Some(STANDARD.encode(authority.pem()).as_str())
            && field("client-key-data").is_some()
            && field("client-certificate-data")
                .and_then(|data| STANDARD.decode(data).ok())
                .and_then(|pem| CertificateDer::from_pem_slice(&pem).ok())
                .is_some_and(|der| half_left(&der, leaf, now))
    }
}

/// Whether the certificate's user is the leaf's and half of the leaf's lifetime remains.
fn half_left(der: &CertificateDer<'_>, leaf: &Leaf, now: SystemTime) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    let named = certificate
        .subject()
        .iter_common_name()
        .next()
        .is_some_and(|cn| cn.as_str() == Ok(leaf.common_name.as_str()));
    named && certificate.validity().not_after.timestamp() >= seconds(now + leaf.lifetime / 2)
}

/// A YAML double-quoted scalar.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
#[path = "kubeconfig_tests.rs"]
mod tests;

//! A certificate authority: one key, one self-signed certificate, in two files.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    der,
    error::{Error, Result},
    file,
    leaf::{Leaf, Usage},
};

/// Certificates start this long before they are made, for peers whose clocks are behind.
pub(crate) const BACKDATE: Duration = Duration::from_secs(300);
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Issues certificates. Its private key never leaves the process but into its own file.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The issuer's key once more, for what it does not sign by itself.
    key: KeyPair,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A certificate with its private key.
pub struct Credential {
    pub certificate: CertificateDer<'static>,
    pub certificate_pem: String,
    pub key_pem: String,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Authority {
    /// Reads the authority from `<dir>/<stem>.crt` and `<dir>/<stem>.key`, or makes them.
    ///
    /// The key is written first: after a crash in between, the next open makes the certificate for it.
    pub fn open(dir: &Path, stem: &str, common_name: &str, now: SystemTime) -> Result<Self> {
        let key_path = dir.join(format!("{stem}.key"));
        let certificate_path = dir.join(format!("{stem}.crt"));
        let (key, pem) = match (file::read(&key_path)?, file::read(&certificate_path)?) {
            (Some(key), pem) => {
                let key = KeyPair::from_pem(&key).map_err(|e| Error::Corrupt {
                    path: key_path,
                    what: "a PKCS#8 private key in PEM",
                    why: e.to_string(),
                })?;
                (key, pem)
            }
            (None, Some(_)) => {
                return Err(Error::KeyMissing { missing: key_path, present: certificate_path });
            }
            (None, None) => {
                let key = KeyPair::generate()
                    .map_err(|source| Error::Issue { step: "make an authority's key", source })?;
                file::write_private(&key_path, key.serialize_pem().as_bytes())?;
                (key, None)
            }
        };
        let pem = match pem {
            Some(pem) => pem,
            None => {
                let pem = authority_params(common_name, now)
                    .self_signed(&key)
                    .map_err(|source| Error::Issue { step: "sign an authority's certificate", source })?
                    .pem();
                file::write_private(&certificate_path, pem.as_bytes())?;
                pem
            }
        };
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| Error::Corrupt {
            path: certificate_path.clone(),
            what: "a certificate in PEM",
            why: e.to_string(),
        })?;
        check(&certificate_path, &certificate, &key, now)?;
        let own = KeyPair::from_pem(&key.serialize_pem())
            .map_err(|source| Error::Issue { step: "read an authority's key", source })?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|e| Error::Corrupt {
            path: certificate_path,
            what: "an authority's certificate",
            why: e.to_string(),
        })?;
        Ok(Self { issuer, key: own, certificate, pem })
    }

    /// Reads an authority that somebody else keeps, such as the cluster's in a process of its own: its certificate, and
    /// its key in PKCS#8 or, an RSA one, in PKCS#1, both in PEM.
    ///
    /// # Errors
    /// Names the file, and what is wrong with it.
    pub fn load(certificate: &Path, key: &Path, now: SystemTime) -> Result<Self> {
        let given = |path: &Path, what: &'static str| {
            let path = path.to_owned();
            move |why: String| Error::Given { path, what, why }
        };
        let text = |path: &Path| {
            let failed = |source| Error::File { step: "read", path: path.to_owned(), source };
            std::fs::read_to_string(path).map_err(failed)
        };
        let unreadable = given(key, "a private key in PEM (PKCS#8, or PKCS#1 of RSA)");
        let (key_pem, pem) = (text(key)?, text(certificate)?);
        let read = || -> std::result::Result<[KeyPair; 2], String> {
            let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| e.to_string())?;
            let key = match key {
                PrivateKeyDer::Pkcs1(key) => rsa_pkcs8(key.secret_pkcs1_der()),
                PrivateKeyDer::Pkcs8(key) => key,
                _ => return Err("its form is another".to_owned()),
            };
            let pair = || KeyPair::try_from(&key).map_err(|e| e.to_string());
            Ok([pair()?, pair()?])
        };
        let [key, own] = read().map_err(unreadable)?;
        let unfit = || given(certificate, "an authority's certificate");
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| unfit()(e.to_string()))?;
        check(certificate, &der, &key, now).map_err(|error| match error {
            Error::Corrupt { why, .. } => unfit()(why),
            Error::OutsideValidity { not_before, not_after, .. } => {
                unfit()(format!("it is only valid from {not_before} to {not_after}"))
            }
            other => other,
        })?;
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|e| unfit()(e.to_string()))?;
        Ok(Self { issuer, key: own, certificate: der, pem })
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(crate) fn key(&self) -> &KeyPair {
        &self.key
    }

    /// The same in PEM, as `ca.crt` is handed to clients and pods.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Makes a key and a certificate for it.
    pub fn issue(&self, leaf: &Leaf, now: SystemTime) -> Result<Credential> {
        let failed = |step| move |source| Error::Issue { step, source };
        let key = KeyPair::generate().map_err(failed("make a key"))?;
        // Names that are addresses become address entries.
        let mut params = CertificateParams::new(leaf.names.clone()).map_err(failed("name a certificate"))?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, leaf.common_name.as_str());
        if let Some(organization) = &leaf.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match leaf.usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let (not_before, not_after) = (now - BACKDATE, now + leaf.lifetime);
        valid(&mut params, not_before, not_after);
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed("sign a certificate"))?;
        Ok(Credential {
            certificate_pem: certificate.pem(),
            certificate: certificate.der().clone(),
            key_pem: key.serialize_pem(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
            not_before,
            not_after,
        })
    }
}

impl Credential {
    /// The form that rustls signs handshakes with.
    pub fn certified_key(&self) -> Result<Arc<CertifiedKey>> {
        let key = PrivateKeyDer::Pkcs8(self.key.clone_key());
        let key = rustls::crypto::ring::sign::any_supported_type(&key)
            .map_err(|source| Error::Tls { step: "load a certificate's key", source })?;
        Ok(Arc::new(CertifiedKey::new(vec![self.certificate.clone()], key)))
    }
}

/// RFC 5958's form of RFC 8017's.
fn rsa_pkcs8(pkcs1: &[u8]) -> PrivatePkcs8KeyDer<'static> {
    /// `rsaEncryption`
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    let algorithm = der::sequence(&[&der::tagged(der::OID, &[RSA]), der::NULL]);
    let key = der::tagged(der::OCTETS, &[pkcs1]);
    der::sequence(&[&der::tagged(der::INTEGER, &[&[0]]), &algorithm, &key]).into()
}

fn authority_params(common_name: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    valid(&mut params, now - BACKDATE, now + AUTHORITY_LIFETIME);
    params
}

/// Refuses a certificate that is not this key's, or not valid now.
fn check(path: &Path, der: &CertificateDer<'_>, key: &KeyPair, now: SystemTime) -> Result<()> {
    let corrupt =
        |why: String| Error::Corrupt { path: path.to_owned(), what: "an authority's certificate", why };
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| corrupt(e.to_string()))?;
    if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(corrupt("it belongs to another key than the one beside it".to_owned()));
    }
    let validity = certificate.validity();
    let at = seconds(now);
    if at < validity.not_before.timestamp() || at > validity.not_after.timestamp() {
        return Err(Error::OutsideValidity {
            path: path.to_owned(),
            not_before: validity.not_before.to_string(),
            not_after: validity.not_after.to_string(),
        });
    }
    Ok(())
}

/// Seconds since 1970; negative before it.
pub(crate) fn seconds(at: SystemTime) -> i64 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}

/// Sets the validity; clocks before 1970 read as 1970.
fn valid(params: &mut CertificateParams, from: SystemTime, to: SystemTime) {
    let date =
        |at: SystemTime| rcgen::date_time_ymd(1970, 1, 1) + at.duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_before = date(from);
    params.not_after = date(to);
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;

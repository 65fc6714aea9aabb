//! Certificates that somebody asks for with a key of their own: PKCS#10 requests (RFC 2986), and what an authority
//! makes of one (RFC 5280).

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use rcgen::SigningKey;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use x509_parser::{
    certification_request::X509CertificationRequest,
    cri_attributes::ParsedCriAttribute,
    extensions::{GeneralName, ParsedExtension},
    prelude::{FromDer, X509Certificate},
};

use crate::{
    authority::{Authority, BACKDATE},
    der,
    error::{Error, Result},
    secp521,
};

/// Requests are small; nobody needs more bytes than this for one.
const MAX: usize = 64 * 1024;

/// A request whose sender holds the key that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningRequest {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub emails: Vec<String>,
    pub uris: Vec<String>,
    /// The subject and the key as they were sent, and the content of the subject's alternative names.
    subject: Vec<u8>,
    key: Vec<u8>,
    names: Option<(bool, Vec<u8>)>,
}

/// Why a text is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotARequest {
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    NotPem,
    #[error("the request is longer than {MAX} bytes")]
    TooLong,
    #[error("asn1: the request cannot be read")]
    Unreadable,
    /// Who sent it may not hold the key.
    #[error("the request's signature does not verify")]
    Signature,
}

/// What a certificate may be used for, as `certificates.k8s.io` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUsage {
    /// The bit of RFC 5280's KeyUsage.
    Bit(u8),
    /// The content of an extended usage's object identifier.
    Extended(&'static [u8]),
}

impl KeyUsage {
    /// `None` for a usage that there is not.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "signing" | "digital signature" => Self::Bit(0),
            "content commitment" => Self::Bit(1),
            "key encipherment" => Self::Bit(2),
            "data encipherment" => Self::Bit(3),
            "key agreement" => Self::Bit(4),
            "cert sign" => Self::Bit(5),
            "crl sign" => Self::Bit(6),
            "encipher only" => Self::Bit(7),
            "decipher only" => Self::Bit(8),
            "any" => Self::Extended(&[0x55, 0x1d, 0x25, 0x00]),
            "server auth" => Self::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 1]),
            "client auth" => Self::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 2]),
            "code signing" => Self::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 3]),
            "email protection" | "s/mime" => Self::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 4]),
            "ipsec end system" => Self::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 5]),
            "ipsec tunnel" => Self::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 6]),
            "ipsec user" => Self::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 7]),
            "timestamping" => Self::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 8]),
            "ocsp signing" => Self::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 9]),
            "microsoft sgc" => Self::Extended(&[0x2b, 6, 1, 4, 1, 0x82, 0x37, 10, 3, 3]),
            "netscape sgc" => Self::Extended(&[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 4, 1]),
            _ => return None,
        })
    }
}

impl SigningRequest {
    /// Reads a request in PEM and verifies that it is signed with the key that it names.
    ///
    /// # Errors
    /// It is no request, or somebody else's.
    pub fn parse(pem: &[u8]) -> std::result::Result<Self, NotARequest> {
        if pem.len() > MAX {
            return Err(NotARequest::TooLong);
        }
        let mut text = pem;
        let block = match pem::from_buf(&mut text) {
            Ok(Some((SectionKind::Csr, der))) => der,
            _ => return Err(NotARequest::NotPem),
        };
        let (rest, request) =
            X509CertificationRequest::from_der(&block).map_err(|_| NotARequest::Unreadable)?;
        if !rest.is_empty() {
            return Err(NotARequest::Unreadable);
        }
        if !secp521::is_signed(&request) {
            return Err(NotARequest::Signature);
        }
        let info = &request.certification_request_info;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value.as_str().map(str::to_owned).map_err(|_| NotARequest::Unreadable)
        };
        let mut read = Self {
            // As everywhere, the last one counts.
            common_name: info.subject.iter_common_name().last().map(text).transpose()?.unwrap_or_default(),
            organizations: info
                .subject
                .iter_organization()
                .map(text)
                .collect::<std::result::Result<_, _>>()?,
            dns_names: Vec::new(),
            addresses: Vec::new(),
            emails: Vec::new(),
            uris: Vec::new(),
            subject: info.subject.as_raw().to_owned(),
            key: info.subject_pki.raw.to_owned(),
            names: None,
        };
        let extensions = info.iter_attributes().filter_map(|attribute| match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(requested) => Some(&requested.extensions),
            _ => None,
        });
        for extension in extensions.flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
                continue;
            };
            read.names = Some((extension.critical, extension.value.to_owned()));
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(name) => read.dns_names.push((*name).to_owned()),
                    GeneralName::RFC822Name(name) => read.emails.push((*name).to_owned()),
                    GeneralName::URI(name) => read.uris.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => read.addresses.push(address(bytes)?),
                    _ => return Err(NotARequest::Unreadable),
                }
            }
        }
        Ok(read)
    }
}

fn address(bytes: &[u8]) -> std::result::Result<IpAddr, NotARequest> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4().or_else(|_| v6()).map_err(|_| NotARequest::Unreadable)
}

impl Authority {
    /// Makes the certificate that `request` asks for, to be used for `usages` and for no authority of its own; it
    /// ends after `lifetime`, or with the authority if that is sooner. In PEM.
    ///
    /// # Errors
    /// The authority's key does not sign.
    pub fn sign(
        &self,
        request: &SigningRequest,
        usages: &[KeyUsage],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<String> {
        let own = self.certificate();
        let unreadable = |step| Error::Issue { step, source: rcgen::Error::CouldNotParseCertificate };
        let (_, authority) =
            X509Certificate::from_der(own).map_err(|_| unreadable("read the authority's certificate"))?;
        let algorithm = {
            let own = &authority.signature_algorithm;
            let null = own.parameters.as_ref().map(|_| der::NULL).unwrap_or_default();
            der::sequence(&[&der::tagged(der::OID, &[own.algorithm.as_bytes()]), null])
        };
        let mut serial = [0; 16];
        SystemRandom::new().fill(&mut serial).map_err(|_| Error::Random { step: "number a certificate" })?;
        // A positive number without a leading zero.
        serial[0] = serial[0] & 0x7f | 0x40;
        let end = u64::try_from(authority.validity().not_after.timestamp()).unwrap_or(0);
        let end = (now + lifetime).min(SystemTime::UNIX_EPOCH + Duration::from_secs(end));
        let extensions = extensions(request, usages, authority.public_key().subject_public_key.data.as_ref());
        let body = der::sequence(&[
            &der::tagged(der::context(0), &[&der::tagged(der::INTEGER, &[&[2]])]),
            &der::tagged(der::INTEGER, &[&serial]),
            &algorithm,
            authority.subject().as_raw(),
            &der::sequence(&[&der::time(now - BACKDATE), &der::time(end)]),
            &request.subject,
            &request.key,
            &der::tagged(der::context(3), &[&extensions]),
        ]);
        let signature = self
            .key()
            .sign(&body)
            .map_err(|source| Error::Issue { step: "sign a requested certificate", source })?;
        let certificate = der::sequence(&[&body, &algorithm, &der::bits(&signature, 0)]);
        Ok(der::pem("CERTIFICATE", &certificate))
    }
}

/// The extensions of a certificate that is no authority.
fn extensions(request: &SigningRequest, usages: &[KeyUsage], authority: &[u8]) -> Vec<u8> {
    let one = |oid: &[u8], critical: bool, content: &[u8]| {
        let critical: &[u8] = if critical { der::TRUE } else { &[] };
        der::sequence(&[&der::tagged(der::OID, &[oid]), critical, &der::tagged(der::OCTETS, &[content])])
    };
    let mut all = Vec::new();
    let mut bits: u16 = 0;
    let mut extended: Vec<Vec<u8>> = Vec::new();
    for usage in usages {
        match usage {
            KeyUsage::Bit(bit) => bits |= 0x8000 >> bit,
            KeyUsage::Extended(oid) => {
                let oid = der::tagged(der::OID, &[oid]);
                if !extended.contains(&oid) {
                    extended.push(oid);
                }
            }
        }
    }
    if bits != 0 {
        let [high, low] = bits.to_be_bytes();
        let unused = u8::try_from(bits.trailing_zeros()).unwrap_or(0);
        let content = if low == 0 { der::bits(&[high], unused - 8) } else { der::bits(&[high, low], unused) };
        all.push(one(&[0x55, 0x1d, 15], true, &content));
    }
    if !extended.is_empty() {
        let oids: Vec<&[u8]> = extended.iter().map(Vec::as_slice).collect();
        all.push(one(&[0x55, 0x1d, 37], false, &der::sequence(&oids)));
    }
    all.push(one(&[0x55, 0x1d, 19], true, &der::sequence(&[])));
    // RFC 7093's way to name a key: the start of its hash, which is also how rcgen names an authority's.
    let hash = ring::digest::digest(&ring::digest::SHA256, authority);
    let key = der::tagged(der::implicit(0), &[&hash.as_ref()[..20]]);
    all.push(one(&[0x55, 0x1d, 35], false, &der::sequence(&[&key])));
    if let Some((critical, names)) = &request.names {
        all.push(one(&[0x55, 0x1d, 17], *critical, names));
    }
    let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
    der::sequence(&all)
}

/// When a certificate in PEM ends; `None` if it is none.
pub fn expiry(pem: &[u8]) -> Option<SystemTime> {
    let der = rustls::pki_types::CertificateDer::from_pem_slice(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;

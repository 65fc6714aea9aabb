//! When a certificate is valid.

use rustls::{
    CertificateError,
    pki_types::{CertificateDer, UnixTime},
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Whether a certificate is valid at a time, for those that are trusted as they are and not for who signed them.
///
/// # Errors
/// It cannot be read, or it is too early or too late for it.
pub fn check_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let refused = |why| Err(rustls::Error::InvalidCertificate(why));
    let Ok((_, read)) = X509Certificate::from_der(certificate) else {
        return refused(CertificateError::BadEncoding);
    };
    let at = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if at < read.validity().not_before.timestamp() {
        return refused(CertificateError::NotValidYet);
    }
    if at > read.validity().not_after.timestamp() {
        return refused(CertificateError::Expired);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{Authority, Leaf};

    #[test]
    fn a_certificate_has_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let authority = Authority::open(dir.path(), "ca", "ca", now).unwrap();
        let certificate = authority.issue(&Leaf::scheduler(), now).unwrap().certificate;
        let at = |since: Duration| UnixTime::since_unix_epoch(since);
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(check_validity(&certificate, at(since)), Ok(()));
        let late = check_validity(&certificate, at(since + Duration::from_secs(400 * 24 * 3600)));
        assert_eq!(late, Err(rustls::Error::InvalidCertificate(CertificateError::Expired)));
        let early = check_validity(&certificate, at(since - Duration::from_secs(24 * 3600)));
        assert_eq!(early, Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYet)));
        assert!(check_validity(&CertificateDer::from(vec![1, 2]), at(since)).is_err());
    }
}

//! Keys that certificates are asked for with.

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519,
};

use crate::error::{Error, Result};

/// A new key, and what proves that its maker holds it.
pub struct AskingKey {
    /// PKCS#8 in PEM.
    pub pem: String,
    /// A PKCS#10 request in DER that names nobody and is signed with the key.
    pub request: Vec<u8>,
}

impl AskingKey {
    /// Makes a key of a type as KEP-4317 names it. `None` for RSA and P-521, of which `ring` makes no keys, and for
    /// names that are none.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn new(kind: &str) -> Result<Option<Self>> {
        let algorithm = match kind {
            "ECDSAP256" => &PKCS_ECDSA_P256_SHA256,
            "ECDSAP384" => &PKCS_ECDSA_P384_SHA384,
            "ED25519" => &PKCS_ED25519,
            _ => return Ok(None),
        };
        let failed = |step| move |source| Error::Issue { step, source };
        let key = KeyPair::generate_for(algorithm).map_err(failed("make a key to ask with"))?;
        let mut stub = CertificateParams::default();
        stub.distinguished_name = DistinguishedName::new();
        let request = stub.serialize_request(&key).map_err(failed("sign a request"))?;
        Ok(Some(Self { pem: key.serialize_pem(), request: request.der().to_vec() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proves_its_key;

    #[test]
    fn whoever_asks_proves_the_key() {
        for kind in ["ECDSAP256", "ECDSAP384", "ED25519"] {
            let key = AskingKey::new(kind).unwrap().unwrap();
            assert_eq!(proves_its_key(&key.request), Ok(()), "{kind}");
            assert!(KeyPair::from_pem(&key.pem).is_ok(), "{kind}");
        }
        assert!(AskingKey::new("RSA3072").unwrap().is_none());
    }
}

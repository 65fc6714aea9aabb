//! Signatures beside what they sign: JWS (RFC 7515) without its payload.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;

/// Signs `payload` by a secret that the reader knows as `id`: HS256, in the compact form, the payload left out.
pub fn detached_signature(id: &str, secret: &str, payload: &[u8]) -> String {
    // Ids are plain; should one not be, the header is no JSON and verifies nowhere.
    let header = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"kid\":\"{id}\"}}"));
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_verifies_with_the_payload_put_back() {
        let jws = detached_signature("abcdef", "secret", b"payload");
        let (header, signature) = jws.split_once("..").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(header).unwrap(), br#"{"alg":"HS256","kid":"abcdef"}"#);
        let verify = |payload: &[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
            let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
            hmac::verify(&key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).is_ok()
        };
        assert!(verify(b"payload") && !verify(b"other"));
    }
}

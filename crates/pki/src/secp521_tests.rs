use base64::{Engine as _, prelude::BASE64_STANDARD};
use p521::ecdsa::{SigningKey, signature::hazmat::PrehashSigner};
use x509_parser::prelude::FromDer;

use super::*;
use crate::{SigningRequest, der, proves_its_key, proves_possession};

fn bytes(text: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text).unwrap()
}

#[test]
fn what_openssl_signed_is_verified() {
    let (key, proof) = (bytes(KEY), bytes(PROOF));
    assert_eq!(proves_possession(&key, b"pod-uid", &proof), Ok(()));
    assert!(proves_possession(&key, b"another", &proof).is_err());
    let mut forged = proof.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert!(proves_possession(&key, b"pod-uid", &forged).is_err());
    for request in [bytes(REQUEST_SHA512), bytes(REQUEST_SHA256)] {
        assert_eq!(proves_its_key(&request), Ok(()));
        let read = SigningRequest::parse(der::pem("CERTIFICATE REQUEST", &request).as_bytes()).unwrap();
        assert_eq!((read.common_name.as_str(), read.organizations), ("big", vec!["dev".to_owned()]));
        let mut forged = request.clone();
        // Within the name: what was signed is another.
        forged[20] ^= 1;
        let (_, forged) = X509CertificationRequest::from_der(&forged).unwrap();
        assert!(!is_signed(&forged));
    }
}

#[test]
fn tokens_have_signatures_of_two_numbers() {
    let key = SigningKey::from_slice(&[7; SIZE].map(|byte: u8| byte & 1)).unwrap();
    let message = b"header.claims";
    let signature: Signature = key.sign_prehash(digest::digest(&SHA512, message).as_ref()).unwrap();
    let point = key.verifying_key().to_sec1_point(false);
    let (x, y) = point.as_bytes()[1..].split_at(SIZE);
    let signature = signature.to_bytes();
    assert!(es512_verifies(x, y, message, &signature));
    assert!(!es512_verifies(x, y, b"header.others", &signature));
    assert!(!es512_verifies(y, x, message, &signature), "no point of the curve");
    for odd in [&signature[..100], &[][..], &[0; 2 * SIZE]] {
        assert!(!es512_verifies(x, y, message, odd));
    }
}

// A key of openssl's, its signature of `pod-uid` over SHA-256, and requests signed with it.

const KEY: &str = "\
    MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBz1GD2QRE+OTYvvcDbov7vndiNQ5W0o60/xJxeT/vyYS0PBcYndfucD8fKqtdq/9RsZwiqNrpLN\
    1XGfYkLp95ZbUBuzRUUbUMGjufbfSTUU9gAArEA1qDoqOLT022lGkwKUXsWYKh+RJdEgHYOyExrKIDGKUU0H6BJyoavQrLUWDlytI=";
const PROOF: &str = "\
    MIGHAkEw+JuYiER2U7ZF/gPYtfBbZXD72CkyZC3jsTLnJRBqAd4zKPOfdDPXOl+yGeSm/c6daVu9+LJu6V0gg9YbU7WzlgJCAeeQa5bEx/lggC\
    yH28Jb4T1asIBOr6QmC9B1efToWJ5G3xrv7uYOl+ZfRMvBURKLyT9xrJ+kcC2rrSTIlGcwDcqj";
const REQUEST_SHA512: &str = "\
    MIIBXjCBwQIBADAcMQwwCgYDVQQKDANkZXYxDDAKBgNVBAMMA2JpZzCBmzAQBgcqhkjOPQIBBgUrgQQAIwOBhgAEAc9Rg9kERPjk2L73A26L+7\
    53YjUOVtKOtP8ScXk/78mEtDwXGJ3X7nA/HyqrXav/UbGcIqja6SzdVxn2JC6feWW1Abs0VFG1DBo7n230k1FPYAAKxANag6Kji09NtpRpMClF\
    7FmCofkSXRIB2DshMayiAxilFNB+gScqGr0Ky1Fg5crSoAAwCgYIKoZIzj0EAwQDgYsAMIGHAkF69aDqKR/Ns9Dy1UFOa3d+HxK2itH9KdN/5V\
    lToPqnYPjMX/KNzEUqIZ7GpZkOe8JP9uqekdWd2JW2hkSmxHObXwJCAMi+KfYOTlMVBgZyLftgsR2Sg/zRq7SI2l0Itb5idH3dO5rLLwQl4S8X\
    Wj8sHkqLL5y3qIhlRvIgGkzFshFTBJO+";
const REQUEST_SHA256: &str = "\
    MIIBXjCBwQIBADAcMQwwCgYDVQQKDANkZXYxDDAKBgNVBAMMA2JpZzCBmzAQBgcqhkjOPQIBBgUrgQQAIwOBhgAEAc9Rg9kERPjk2L73A26L+7\
    53YjUOVtKOtP8ScXk/78mEtDwXGJ3X7nA/HyqrXav/UbGcIqja6SzdVxn2JC6feWW1Abs0VFG1DBo7n230k1FPYAAKxANag6Kji09NtpRpMClF\
    7FmCofkSXRIB2DshMayiAxilFNB+gScqGr0Ky1Fg5crSoAAwCgYIKoZIzj0EAwIDgYsAMIGHAkEmldgvFxtilLDdzrKtmQq6ue7Rj1QH5l/ltP\
    Bf3kjys0GdpxvewF38NpjPgY+KV6BGcfa+JVDbeV/AM/RkwfLBrQJCAZ7iI6YsZLqjl15t92rtXiVtrcne8gyFG5BASMdrgNZ/UqRSiSz7hfj3\
    6lbi0s2DEgreeiY3HycdWM4n74SqdiPm";

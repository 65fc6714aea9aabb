//! What others need to verify this cluster's tokens (OpenID Connect Discovery 1.0, RFC 7517).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::Tokens;

pub const OPENID_CONFIGURATION_PATH: &str = "/.well-known/openid-configuration";
pub const JWKS_PATH: &str = "/openid/v1/jwks";

/// The document at [`OPENID_CONFIGURATION_PATH`]; `server` is `https://host:port`.
pub fn openid_configuration(tokens: &Tokens, server: &str) -> Value {
    json!({
        "issuer": tokens.issuer(),
        "jwks_uri": format!("{server}{JWKS_PATH}"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

/// The document at [`JWKS_PATH`] (`application/jwk-set+json`).
pub fn jwks(tokens: &Tokens) -> Value {
    let key = tokens.key();
    let (x, y) = key.coordinates();
    json!({ "keys": [{
        "use": "sig",
        "kty": "EC",
        "kid": key.id(),
        "crv": "P-256",
        "alg": "ES256",
        "x": URL_SAFE_NO_PAD.encode(x),
        "y": URL_SAFE_NO_PAD.encode(y),
    }]})
}

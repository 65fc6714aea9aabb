use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::json;

use super::*;
use crate::{outgoing::stranger::Stranger, source::fake::Table};

const NOW: u64 = 1_800_000_000;

/// A key of an issuer's, and its id.
struct Signer(EcdsaKeyPair, String);

impl Signer {
    fn new(id: &str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        Self(key, id.to_owned())
    }

    fn published(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        json!({"kty": "EC", "crv": "P-256", "kid": self.1, "use": "sig", "x": part(1..33), "y": part(33..65)})
    }

    fn sign(&self, header: Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(json!({"alg": "ES256", "kid": self.1}), claims)
    }
}

/// An issuer that publishes whatever keys stand in the shared value.
async fn issuer(keys: Arc<Mutex<Value>>, asked: Arc<AtomicUsize>) -> (Stranger, Oidc) {
    let own = Arc::new(Mutex::new(String::new()));
    let url = Arc::clone(&own);
    let stranger = Stranger::start(&["127.0.0.1"], move |request: Request<Bytes>| {
        let base = url.lock().clone();
        let body = match request.uri().path() {
            "/.well-known/openid-configuration" => {
                json!({"issuer": base, "jwks_uri": format!("{base}/keys")})
            }
            "/keys" => {
                asked.fetch_add(1, Relaxed);
                json!({"keys": keys.lock().clone()})
            }
            _ => Value::Null,
        };
        async move {
            let code = if body.is_null() { StatusCode::NOT_FOUND } else { StatusCode::OK };
            Response::builder().status(code).body(Bytes::from(body.to_string())).unwrap()
        }
    })
    .await;
    let base = stranger.url("");
    own.lock().clone_from(&base);
    let issuer = Issuer {
        url: base,
        authority: Some(stranger.ca.clone()),
        audiences: vec!["us".to_owned()],
        username: claim("sub", "o:"),
        groups: Some(claim("groups", "g:")),
        required: vec![("org".to_owned(), "x".to_owned())],
        ..Issuer::default()
    };
    let outgoing = Arc::new(Outgoing::new(Arc::new(Table::default()), None));
    (stranger, Oidc::new(issuer, outgoing))
}

fn claim(claim: &str, prefix: &str) -> Mapping {
    Mapping::Claim { claim: claim.to_owned(), prefix: prefix.to_owned() }
}

fn claims(issuer: &str) -> Value {
    json!({"iss": issuer, "sub": "jane", "aud": ["them", "us"], "exp": NOW + 60, "groups": ["dev"], "org": "x", "jti": "7"})
}

async fn holder(oidc: &Oidc, token: &str) -> Option<Identity> {
    oidc.holder(token, UNIX_EPOCH + Duration::from_secs(NOW)).await
}

#[tokio::test]
async fn a_token_is_verified_by_the_keys_that_its_issuer_publishes() {
    let (first, second) = (Signer::new("1"), Signer::new("2"));
    let keys = Arc::new(Mutex::new(json!([first.published(), {"kty": "odd"}, 7])));
    let asked = Arc::new(AtomicUsize::new(0));
    let (_stranger, oidc) = issuer(Arc::clone(&keys), Arc::clone(&asked)).await;
    let claims = claims(&oidc.issuer.url);
    let jane = holder(&oidc, &first.token(&claims)).await.unwrap();
    assert_eq!(jane.name(), "o:jane");
    assert_eq!(jane.groups(), ["g:dev", "system:authenticated"]);
    assert_eq!(jane.extra()[CREDENTIAL_ID], ["JTI=7"]);
    holder(&oidc, &first.token(&claims)).await.unwrap();
    assert_eq!(asked.load(Relaxed), 1, "known keys are not asked for");

    *keys.lock() = json!([second.published()]);
    assert_eq!(holder(&oidc, &second.token(&claims)).await, None, "not again so soon");
    oidc.keys.lock().asked = Some(Instant::now() - PAUSE);
    assert!(holder(&oidc, &second.token(&claims)).await.is_some());
    assert_eq!(holder(&oidc, &first.token(&claims)).await, None, "the old key is gone");
    for forged in [
        Signer::new("2").token(&claims),
        second.sign(json!({"alg": "none", "kid": "2"}), &claims),
        second.sign(json!({"alg": "HS256", "kid": "2"}), &claims),
        second.sign(json!({"alg": "ES384", "kid": "2"}), &claims),
        "x.y.z".to_owned(),
        "x".repeat(MAX_LENGTH + 1),
    ] {
        assert_eq!(holder(&oidc, &forged).await, None, "{forged}");
    }
}

#[tokio::test]
async fn an_issuer_that_is_another_is_not_believed() {
    let key = Signer::new("1");
    let keys = Arc::new(Mutex::new(json!([key.published()])));
    let (_stranger, mut oidc) = issuer(keys, Arc::default()).await;
    let discovery = oidc.issuer.discovery();
    oidc.issuer.url = "https://other.example".to_owned();
    oidc.issuer.discovery_url = Some(discovery);
    assert_eq!(holder(&oidc, &key.token(&claims("https://other.example"))).await, None);
}

#[test]
fn claims_are_accepted_only_as_configured() {
    let issuer = Issuer {
        audiences: vec!["us".to_owned()],
        username: claim("email", ""),
        groups: Some(claim("groups", "")),
        uid: Some(claim("sub", "")),
        required: vec![("org".to_owned(), "x".to_owned())],
        ..Issuer::default()
    };
    let judge = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims("https://i");
        claims["email"] = "jane@example.com".into();
        change(&mut claims);
        identity(&issuer, &claims, NOW).map(|user| (user.name().to_owned(), user.uid().to_owned()))
    };
    let jane = Ok(("jane@example.com".to_owned(), "jane".to_owned()));
    assert_eq!(judge(&|_| ()), jane);
    assert_eq!(judge(&|c| c["aud"] = "us".into()), jane);
    assert_eq!(judge(&|c| c["groups"] = "dev".into()), jane);
    assert_eq!(judge(&|c| c["email_verified"] = true.into()), jane);
    assert_eq!(judge(&|c| c["nbf"] = (NOW + SKEW).into()), jane);
    for (claim, value) in [
        ("exp", json!(NOW)),
        ("exp", Value::Null),
        ("nbf", json!(NOW + SKEW + 1)),
        ("aud", json!("them")),
        ("aud", json!(["us", 7])),
        ("org", json!("y")),
        ("org", Value::Null),
        ("email", json!("")),
        ("email", json!(7)),
        ("email_verified", json!(false)),
        ("groups", json!([7])),
        ("sub", json!(7)),
    ] {
        assert!(judge(&|c| c[claim] = value.clone()).is_err(), "{claim} {value}");
    }
}

/// A token signed by `openssl dgst -sha256 -sign` with a key that is gone.
#[test]
fn rsa_signatures_verify() {
    let token = "eyJhbGciOiAiUlMyNTYiLCAia2lkIjogInIifQ.eyJpc3MiOiAiaHR0cHM6Ly9yc2EuZXhhbXBsZSJ9.qQQs76MFPu2kXBEBs-4Pj5dAQiOKic2X_oYzPJsqchfQSJmYk_sAEhbDya95vdYpew-9yNdLaC2YbTb3NwpDewu6i8cq7i2yu1QOgZrzPlcdk3PREuRcIg7NJ5hoWH2rPO9E7cfJP4LfljZTp1AMyN-xwzGLhFAdUPDnA9_6HVANuy9pvq4UFpRInBmkui3BVOBLiy2vtdthoUs8vvX2ArC0HQxx1XwlQYbEGqs7t9j0nat7c-GGmrLKa1EYkRfZoKqoDDKShb_ioNyugbkmOwuTIpWfH2J-3Hli6wKEZQFavfd8YmdKiF4UyTCp-l2BxBLhy04v0JoXq4PlaE92-g";
    let key: Key = serde_json::from_value(json!({"kty": "RSA", "kid": "r", "e": "AQAB",
        "n": "s5U9Vz5JXjMUa1ICsy1wojNHGAtMsQVXhF46gz8Zk7HN2EqaYvj5oQ6TtTcSLPMtbNeEQYAVIkawn3Shb_OEdO55wW1RX-UG608pZH-sDERbfRN2wDMfP37uyTFKrBdGm9SIvAHYKggKej_JVH3mZJxxN7kaZcJTJk5sxJPdCNGRgx_V754OXRD--a1bOoGo5py0r6YghFFe2q3GXUVG05GUmzZGEtTlL4lQyRvAr9N6wXd4OsdrG2-uYRtL8sqpd7AwhzcgY79J7OLlhVJQEUZBzvEXsmC4nbC0JsRTGRmmtL3zrHNQZKLMYq14eHG_mZp3iDYxpx9oHltbo9S_Iw"})).unwrap();
    let parts = parts(token).unwrap();
    let verifies = |alg: &str, signature: &[u8]| key.verifies(alg, parts.signed.as_bytes(), signature);
    assert!(verifies("RS256", &parts.signature));
    let mut changed = parts.signature.clone();
    changed[9] ^= 1;
    assert!(
        !verifies("RS256", &changed)
            && !verifies("RS384", &parts.signature)
            && !verifies("PS256", &parts.signature)
    );
    let sealing = Key { purpose: "enc".to_owned(), ..key.clone() };
    assert!(!sealing.verifies("RS256", parts.signed.as_bytes(), &parts.signature));
}

/// An issuer with these fields beside its own, in YAML's flow style.
fn configured(rest: &str) -> Issuer {
    let text = format!(
        "{{apiVersion: apiserver.config.k8s.io/v1, kind: AuthenticationConfiguration, jwt: [\
         {{issuer: {{url: 'https://i', audiences: [us]}}, {rest}}}]}}"
    );
    parse(text.as_bytes()).unwrap().issuers.remove(0)
}

#[test]
fn expressions_make_users_of_claims_and_judge_both() {
    let issuer = configured(
        "claimMappings: {\
         username: {expression: \"claims.email_verified ? 'o:' + claims.email : 'unverified'\"}, \
         groups: {expression: \"claims.roles.split(',')\"}, \
         uid: {expression: 'claims.sub'}, \
         extra: [{key: example.org/tenant, valueExpression: claims.tenant}, \
                 {key: example.org/none, valueExpression: \"['', claims.?none.orValue('')]\"}]}, \
         claimValidationRules: [{expression: 'claims.exp - claims.nbf <= 3600', message: too long}, \
                                {claim: org, requiredValue: x}], \
         userValidationRules: [{expression: \"!user.username.startsWith('system:')\", message: reserved}, \
                               {expression: \"user.groups.all(g, g != 'root') && user.extra.size() >= 0\"}]",
    );
    let judge = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims("https://i");
        for (key, value) in [("email", json!("jane@x")), ("email_verified", json!(true)), ("nbf", json!(NOW))]
        {
            claims[key] = value;
        }
        claims["roles"] = "dev,,ops".into();
        claims["tenant"] = json!(["a", "b"]);
        change(&mut claims);
        identity(&issuer, &claims, NOW)
    };
    let jane = judge(&|_| ()).unwrap();
    assert_eq!((jane.name(), jane.uid()), ("o:jane@x", "jane"));
    assert_eq!(jane.groups(), ["dev", "ops", "system:authenticated"]);
    assert_eq!(jane.extra()["example.org/tenant"], ["a", "b"]);
    assert_eq!(jane.extra().keys().filter(|key| key.starts_with("example.org/none")).count(), 0);
    assert_eq!(judge(&|c| c["tenant"] = "a".into()).unwrap().extra()["example.org/tenant"], ["a"]);
    let failed = |expression: &str, message: &str| {
        Err(Unaccepted::Rule { expression: expression.to_owned(), message: message.to_owned() })
    };
    let refused = |change: &dyn Fn(&mut Value)| judge(change).map(|user| user.name().to_owned());
    assert_eq!(
        refused(&|c| c["nbf"] = (NOW - 7200).into()),
        failed("claims.exp - claims.nbf <= 3600", "too long")
    );
    assert_eq!(
        refused(&|c| c["roles"] = "root".into()),
        failed("user.groups.all(g, g != 'root') && user.extra.size() >= 0", "")
    );
    for (claim, value) in [
        ("email", json!(7)),
        ("email_verified", json!("no")),
        ("email_verified", Value::Null),
        ("roles", json!(["dev"])),
        ("sub", json!(7)),
        ("tenant", json!([7])),
        ("tenant", json!({"a": "b"})),
        ("org", json!("y")),
    ] {
        assert!(judge(&|c| c[claim] = value.clone()).is_err(), "{claim} {value}");
    }
    let plain = configured(
        "claimMappings: {username: {claim: sub, prefix: ''}}, \
         userValidationRules: [{expression: \"!user.username.startsWith('system:')\", message: reserved}]",
    );
    let admin = json!({"sub": "system:admin", "aud": "us", "exp": NOW + 1});
    let refused = identity(&plain, &admin, NOW).map(|user| user.name().to_owned());
    assert_eq!(refused, failed("!user.username.startsWith('system:')", "reserved"));
}

#[tokio::test]
async fn issuers_can_be_replaced_while_the_server_runs() {
    let key = Signer::new("1");
    let keys = Arc::new(Mutex::new(json!([key.published()])));
    let (_stranger, oidc) = issuer(keys, Arc::default()).await;
    let token = key.token(&claims(&oidc.issuer.url));
    let other = Issuer { url: "https://other.example".to_owned(), ..oidc.issuer.clone() };
    let issuers = Issuers::new(vec![other.clone()], Arc::clone(&oidc.outgoing));
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    assert_eq!(issuers.holder(&token, now).await, None);
    issuers.replace(vec![other, oidc.issuer.clone()]);
    assert_eq!(issuers.holder(&token, now).await.unwrap().name(), "o:jane");
    issuers.replace(Vec::new());
    assert_eq!(issuers.holder(&token, now).await, None);
}

#[test]
fn keys_on_p521_are_known() {
    // Made by openssl.
    let key: Key = serde_json::from_value(json!({"kty": "EC", "crv": "P-521",
        "x": "Ac9Rg9kERPjk2L73A26L-753YjUOVtKOtP8ScXk_78mEtDwXGJ3X7nA_HyqrXav_UbGcIqja6SzdVxn2JC6feWW1",
        "y": "Abs0VFG1DBo7n230k1FPYAAKxANag6Kji09NtpRpMClF7FmCofkSXRIB2DshMayiAxilFNB-gScqGr0Ky1Fg5crS"}))
    .unwrap();
    let signature = URL_SAFE_NO_PAD.decode(
        "\
        AIQe60zVm9TMuDNRC6vWIGybczFH1XqhkxRYW-lLzE_UdJ9wjGlXiOfrWQy768H0cnQwAmxc2kz1OUxa-kkeil3NAN\
        uckSEgOI3l3JGjZX0zKoLdplJNFhqic_Yg1YPkmVkgt010qujSNZ7GDWDE9WB4a9Ec9TpIBJe5sT5jW_RClGIg",
    );
    let signature = signature.unwrap();
    assert!(key.verifies("ES512", b"header.claims", &signature));
    assert!(!key.verifies("ES512", b"header.others", &signature));
    assert!(!key.verifies("ES384", b"header.claims", &signature));
    let other = Key { crv: "P-384".to_owned(), ..key };
    assert!(!other.verifies("ES512", b"header.claims", &signature));
}

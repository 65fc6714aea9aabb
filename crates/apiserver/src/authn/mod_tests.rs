use std::time::{Duration, UNIX_EPOCH};

use http::HeaderValue;
use serde_json::json;
use tiphys_pki::{Authority, Credential, Leaf, SHORT, TokenKey};

use super::*;
use crate::source::{Source, fake::Table};

struct Fixture {
    authenticator: Authenticator,
    ca: Authority,
    now: Arc<parking_lot::Mutex<SystemTime>>,
    token: String,
}

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::open(dir.path(), "ca", "kubernetes", start()).unwrap();
        let key = Arc::new(TokenKey::open(&dir.path().join("sa.key")).unwrap());
        let account = json!({ "metadata": { "namespace": "ns", "name": "sa", "uid": "1" } });
        let table = Arc::new(Table::with(&[("", "serviceaccounts", account)])) as Arc<dyn Source>;
        let tokens = Arc::new(Tokens::new(key, "https://issuer", table));
        let answer = token_request(&tokens, "ns", "sa", json!({}), start()).unwrap();
        let now = Arc::new(parking_lot::Mutex::new(start()));
        let clock: Clock = {
            let now = Arc::clone(&now);
            Arc::new(move || *now.lock())
        };
        let trust = ClientTrust::new([ca.certificate()]).unwrap();
        let token = answer["status"]["token"].as_str().unwrap().to_owned();
        Self { authenticator: Authenticator::new(trust, tokens, clock), ca, now, token }
    }

    fn certificate(&self) -> Credential {
        self.ca.issue(&Leaf { lifetime: SHORT, ..Leaf::admin() }, start()).unwrap()
    }

    fn ask(&self, chain: &[CertificateDer<'_>], header: Option<&str>, path: &str) -> Result<String, String> {
        let connection = self.authenticator.connection(Some(chain));
        self.ask_on(&connection, header, path)
    }

    fn ask_on(&self, connection: &Connection, header: Option<&str>, path: &str) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, HeaderValue::from_bytes(header.as_bytes()).unwrap());
        }
        let asked = self.authenticator.authenticate(connection, &headers, path);
        match crate::testing::wait(asked) {
            Ok(user) => Ok(user.name().to_owned()),
            Err(error) => {
                let status = Status::from(error);
                assert_eq!(status.code(), 401);
                Err(status.message)
            }
        }
    }
}

#[test]
fn certificates_and_tokens_prove_who_one_is() {
    let fixture = Fixture::new();
    let certificate = fixture.certificate();
    let chain = std::slice::from_ref(&certificate.certificate);
    let bearer = format!("Bearer {}", fixture.token);
    let admin = Ok("kubernetes-admin".to_owned());
    let account = Ok("system:serviceaccount:ns:sa".to_owned());
    assert_eq!(fixture.ask(chain, None, "/api"), admin);
    assert_eq!(fixture.ask(&[], Some(&bearer), "/api"), account);
    assert_eq!(fixture.ask(&[], Some(&bearer.replace("Bearer", "bearer")), "/api"), account);
    assert_eq!(fixture.ask(chain, Some(&bearer), "/api"), admin, "the certificate wins");
    assert_eq!(fixture.ask(chain, Some("Bearer x"), "/api"), admin, "a valid certificate is enough");
}

#[test]
fn nobody_gets_health_and_version_only() {
    let fixture = Fixture::new();
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(fixture.ask(&[], None, path), Ok(crate::identity::ANONYMOUS.to_owned()), "{path}");
    }
    for path in ["/", "/api", "/healthz/", "/healthz/etcd", "/version/", "/metrics", "/openid/v1/jwks", ""] {
        assert_eq!(fixture.ask(&[], None, path), Err("Unauthorized".to_owned()), "{path}");
    }
}

#[test]
fn bad_credentials_are_an_error_everywhere() {
    let fixture = Fixture::new();
    let unauthorized = Err("Unauthorized".to_owned());
    let foreign = Fixture::new().certificate();
    let chain = std::slice::from_ref(&foreign.certificate);
    let garbage = CertificateDer::from(vec![0x30, 0x82, 1, 1]);
    assert_eq!(fixture.ask(chain, None, "/healthz"), unauthorized, "another authority's");
    assert_eq!(fixture.ask(&[garbage], None, "/healthz"), unauthorized);
    assert_eq!(fixture.ask(&[], Some("Bearer nonsense"), "/healthz"), unauthorized);
    assert_eq!(fixture.ask(&[], Some("Bearer \u{fc}"), "/healthz"), unauthorized);
    assert_eq!(fixture.ask(&[], Some("Basic YTpi"), "/api"), unauthorized);
    let bearer = format!("Bearer {}", fixture.token);
    assert!(fixture.ask(chain, Some(&bearer), "/api").is_ok(), "a token makes up for it");
}

#[test]
fn what_expires_is_told_so_on_open_connections_too() {
    let fixture = Fixture::new();
    let certificate = fixture.certificate();
    let connection = fixture.authenticator.connection(Some(std::slice::from_ref(&certificate.certificate)));
    assert!(fixture.ask_on(&connection, None, "/api").is_ok());
    *fixture.now.lock() = start() + SHORT + Duration::from_secs(1);
    let expired = Err("Unauthorized: the client certificate has expired".to_owned());
    assert_eq!(fixture.ask_on(&connection, None, "/api"), expired);
    assert_eq!(fixture.ask(std::slice::from_ref(&certificate.certificate), None, "/api"), expired);
    assert_eq!(
        fixture.ask(&[], Some(&format!("Bearer {}", fixture.token)), "/api"),
        Err("Unauthorized: the token has expired".to_owned())
    );
}

#[test]
fn a_front_proxy_says_whom_it_speaks_for() {
    let mut fixture = Fixture::new();
    let dir = tempfile::tempdir().unwrap();
    let proxies = Authority::open(dir.path(), "front-proxy-ca", "front-proxy-ca", start()).unwrap();
    let trust = ClientTrust::new([proxies.certificate()]).unwrap();
    let names = vec!["front-proxy-client".to_owned()];
    fixture.authenticator = fixture.authenticator.with_front_proxy(FrontProxy { trust, names });
    let proxy = proxies.issue(&Leaf::front_proxy_client(), start()).unwrap();
    let other = proxies.issue(&Leaf::scheduler(), start()).unwrap();
    let own = fixture.certificate();
    let ask = |credential: &Credential, user: &str| {
        let connection =
            fixture.authenticator.connection(Some(std::slice::from_ref(&credential.certificate)));
        let mut headers = HeaderMap::new();
        if !user.is_empty() {
            headers.insert("x-remote-user", HeaderValue::from_str(user).unwrap());
        }
        let asked = fixture.authenticator.authenticate(&connection, &headers, "/api");
        crate::testing::wait(asked).map(|user| user.name().to_owned()).ok()
    };
    assert_eq!(ask(&proxy, "jane"), Some("jane".to_owned()));
    assert_eq!(ask(&proxy, ""), None, "it is nobody itself");
    assert_eq!(ask(&other, "jane"), None, "not every certificate of the authority is a proxy's");
    assert_eq!(ask(&own, "jane"), Some("kubernetes-admin".to_owned()), "only proxies are believed");
    *fixture.now.lock() = start() + SHORT + Duration::from_secs(1);
    assert_eq!(ask(&proxy, "jane"), None);
}

#[test]
fn the_published_key_verifies_tokens() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let fixture = Fixture::new();
    let keys = jwks(fixture.authenticator.tokens());
    let part = |name: &str| URL_SAFE_NO_PAD.decode(keys["keys"][0][name].as_str().unwrap()).unwrap();
    let point = [vec![4], part("x"), part("y")].concat();
    let (signed, signature) = fixture.token.rsplit_once('.').unwrap();
    let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED;
    ring::signature::UnparsedPublicKey::new(algorithm, point)
        .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .unwrap();
    let document = openid_configuration(fixture.authenticator.tokens(), "https://10.0.0.1:6443");
    assert_eq!(document["issuer"], "https://issuer");
    assert_eq!(document["jwks_uri"], "https://10.0.0.1:6443/openid/v1/jwks");
}

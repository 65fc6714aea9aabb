use serde_json::{Value, json};

use super::*;
use crate::source::fake::Table;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn object(name: &str, uid: &str) -> Value {
    json!({ "metadata": { "namespace": "ns", "name": name, "uid": uid } })
}

fn reference(name: &str, uid: &str) -> Reference {
    Reference { name: name.to_owned(), uid: uid.to_owned() }
}

fn key() -> Arc<TokenKey> {
    let dir = tempfile::tempdir().unwrap();
    Arc::new(TokenKey::open(&dir.path().join("sa.key")).unwrap())
}

struct Fixture {
    table: Arc<Table>,
    tokens: Tokens,
}

impl Fixture {
    fn new() -> Self {
        let table = Arc::new(Table::with(&[
            ("", "serviceaccounts", object("sa", "sa-1")),
            ("", "pods", object("pod", "pod-1")),
        ]));
        Self { tokens: Tokens::new(key(), ISSUER, Arc::clone(&table) as Arc<dyn Source>), table }
    }

    fn grant(&self) -> Grant {
        Grant {
            audiences: vec![ISSUER.to_owned()],
            lifetime: Duration::from_secs(3600),
            claims: Private {
                namespace: "ns".to_owned(),
                node: Some(reference("n1", "node-1")),
                pod: Some(reference("pod", "pod-1")),
                secret: None,
                serviceaccount: reference("sa", "sa-1"),
            },
        }
    }

    fn issue(&self) -> String {
        self.tokens.issue(self.grant(), at(0)).unwrap().0
    }
}

#[test]
fn a_token_names_account_pod_and_node() {
    let fixture = Fixture::new();
    let user = fixture.tokens.authenticate(&fixture.issue(), at(10)).unwrap();
    assert_eq!(user.name(), "system:serviceaccount:ns:sa");
    assert_eq!(user.uid(), "sa-1");
    assert_eq!(
        user.groups(),
        ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]
    );
    let extra = |key: &str| user.extra()[&format!("authentication.kubernetes.io/{key}")][0].clone();
    assert_eq!((extra("pod-name").as_str(), extra("pod-uid").as_str()), ("pod", "pod-1"));
    assert_eq!((extra("node-name").as_str(), extra("node-uid").as_str()), ("n1", "node-1"));
    assert!(extra("credential-id").starts_with("JTI="));
}

#[test]
fn a_token_ends_with_its_time_and_its_objects() {
    type Change = fn(&Table);
    let gone = |kind| Err(InvalidToken::Gone { kind });
    let deleting = json!({ "metadata": { "namespace": "ns", "name": "pod", "uid": "pod-1",
        "deletionTimestamp": jiff::Timestamp::try_from(at(100)).unwrap().to_string() } });
    let cases: [(&str, u64, Change, Result<(), InvalidToken>); 7] = [
        ("its last second", 3599, |_| (), Ok(())),
        ("its end", 3600, |_| (), Err(InvalidToken::Expired)),
        ("the pod is deleted", 1, |t| t.remove("", "pods", "ns", "pod"), gone("pod")),
        ("the pod is another", 1, |t| t.put("", "pods", object("pod", "pod-2")), gone("pod")),
        (
            "the account is deleted",
            1,
            |t| t.remove("", "serviceaccounts", "ns", "sa"),
            gone("service account"),
        ),
        (
            "the account is another",
            1,
            |t| t.put("", "serviceaccounts", object("sa", "sa-2")),
            gone("service account"),
        ),
        (
            "the pod is no object",
            1,
            |t| t.put("", "pods", json!({"metadata": {"namespace": "ns", "name": "pod"}})),
            gone("pod"),
        ),
    ];
    for (case, seconds, change, want) in cases {
        let fixture = Fixture::new();
        let token = fixture.issue();
        // Once before, so that the answer does not come from what is remembered.
        fixture.tokens.authenticate(&token, at(1)).unwrap();
        change(&fixture.table);
        assert_eq!(fixture.tokens.authenticate(&token, at(seconds)).map(|_| ()), want, "{case}");
    }
    let fixture = Fixture::new();
    let token = fixture.issue();
    fixture.table.put("", "pods", deleting);
    assert!(fixture.tokens.authenticate(&token, at(159)).is_ok(), "a pod may say goodbye");
    assert_eq!(fixture.tokens.authenticate(&token, at(161)).map(|_| ()), gone("pod"));
}

#[test]
fn other_tokens_are_refused() {
    let fixture = Fixture::new();
    let good = fixture.issue();
    let parts: Vec<&str> = good.split('.').collect();
    let forge = |header: Value, change: &dyn Fn(&mut Value)| {
        let payload = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
        let mut payload: Value = serde_json::from_slice(&payload).unwrap();
        change(&mut payload);
        let signed = format!("{}.{}", encode(&header), encode(&payload));
        let signature = fixture.tokens.key.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let es256 = || json!({ "alg": "ES256" });
    let other_key = Tokens::new(key(), ISSUER, Arc::clone(&fixture.table) as Arc<dyn Source>)
        .issue(fixture.grant(), at(0));
    let cases = [
        ("empty", String::new(), InvalidToken::Malformed),
        ("one part", "abc".to_owned(), InvalidToken::Malformed),
        ("two parts", "abc.def".to_owned(), InvalidToken::Malformed),
        ("not Base64", "a%.b%.c%".to_owned(), InvalidToken::Malformed),
        ("not JSON", "YQ.YQ.YQ".to_owned(), InvalidToken::Malformed),
        ("endless", "a".repeat(1 << 20), InvalidToken::Malformed),
        ("another key", other_key.unwrap().0, InvalidToken::Signature),
        ("no signature", format!("{}.{}.", parts[0], parts[1]), InvalidToken::Signature),
        ("algorithm none", forge(json!({ "alg": "none" }), &|_| ()), InvalidToken::Signature),
        ("another issuer", forge(es256(), &|c| c["iss"] = "x".into()), InvalidToken::Issuer("x".into())),
        ("not yet", forge(es256(), &|c| c["nbf"] = 1_900_000_000_u64.into()), InvalidToken::NotYetValid),
        ("another's name", forge(es256(), &|c| c["sub"] = "system:admin".into()), InvalidToken::Malformed),
        (
            "for others",
            forge(es256(), &|c| c["aud"] = "vault".into()),
            InvalidToken::Audience(vec!["vault".into()]),
        ),
        ("no account", forge(es256(), &|c| c["kubernetes.io"] = Value::Null), InvalidToken::Malformed),
    ];
    for (case, token, want) in cases {
        assert_eq!(fixture.tokens.authenticate(&token, at(1)).unwrap_err(), want, "{case}");
    }
    // Each part of a good token counts.
    for position in 0..good.len() {
        let mut changed = good.clone().into_bytes();
        changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        // The last character's low bits are padding.
        if position + 1 < good.len() {
            assert!(fixture.tokens.authenticate(&changed, at(1)).is_err(), "changed at {position}");
        }
    }
}

#[test]
fn audiences_are_those_that_both_sides_name() {
    let fixture = Fixture::new();
    let grant = Grant { audiences: vec!["vault".to_owned(), "mesh".to_owned()], ..fixture.grant() };
    let token = fixture.tokens.issue(grant, at(0)).unwrap().0;
    let wanted = ["api".to_owned(), "mesh".to_owned()];
    let (_, meant) = fixture.tokens.authenticate_for(&token, &wanted, at(1)).unwrap();
    assert_eq!(meant, ["mesh"]);
    assert!(fixture.tokens.authenticate(&token, at(1)).is_err(), "not for the API server");
}

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tiphys_pki::proves_its_key;

use crate::testing::{World, isolated};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/namespaces/ns/podcertificaterequests/";

/// Waits for the request of this number for a pod, counted from one, and answers with its path and spec.
async fn asked(world: &World, pod: &str, number: usize) -> (String, Value) {
    let mut changes = world.api.changes();
    let wait = async {
        loop {
            let mut all = world.api.below(REQUESTS).into_iter().filter(|(_, r)| r["spec"]["podName"] == pod);
            if let Some((path, request)) = all.nth(number - 1) {
                return (path, request["spec"].clone());
            }
            changes.changed().await.expect("the API lives");
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), wait).await.expect("a request")
}

fn sign(world: &World, path: &str, base64: &str, refresh_at: &str) {
    world.api.change(path, |request| {
        request["status"] = json!({
            "certificateChain": format!("by hand\n-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n"),
            "beginRefreshAt": refresh_at, "notBefore": "2020-01-01T00:00:00Z", "notAfter": "2999-01-01T00:00:00Z",
            "conditions": [{"type": "Issued", "status": "True", "reason": "r", "message": "m",
                "lastTransitionTime": "2020-01-01T00:00:00Z"}],
        });
    });
}

fn create(world: &World, name: &str, key: &str) -> String {
    let certificate = json!({"podCertificate": {"signerName": "example.com/s", "keyType": key,
        "maxExpirationSeconds": 3600, "userAnnotations": {"example.com/a": "b"}, "credentialBundlePath": "bundle.pem",
        "keyPath": "key.pem", "certificateChainPath": "chain.pem"}});
    let sources = json!([{"configMap": {"name": "c"}}, certificate]);
    world.create(
        name,
        json!({"volumes": [{"name": "v", "projected": {"sources": sources}}], "containers": [{"name": "m"}]}),
    )
}

fn world() -> World {
    let world = World::start();
    world.api.put("/api/v1/namespaces/ns/serviceaccounts/default", json!({"metadata": {"uid": "sa-1"}}));
    world.api.put("/api/v1/namespaces/ns/configmaps/c", json!({"data": {"text": "1"}}));
    world
}

#[test]
fn certificates_are_asked_for_shown_and_asked_for_anew() {
    isolated(|| async {
        let world = world();
        let path = create(&world, "certified", "ED25519");
        let (first, spec) = asked(&world, "certified", 1).await;
        let node = world.api.get("/api/v1/nodes/n").unwrap()["metadata"]["uid"].clone();
        for (field, want) in [
            ("signerName", json!("example.com/s")),
            ("podUID", json!("uid-certified")),
            ("serviceAccountName", json!("default")),
            ("serviceAccountUID", json!("sa-1")),
            ("nodeName", json!("n")),
            ("nodeUID", node),
            ("maxExpirationSeconds", json!(3600)),
            ("unverifiedUserAnnotations", json!({"example.com/a": "b"})),
        ] {
            assert_eq!(spec[field], want, "{field}");
        }
        let stub = STANDARD.decode(spec["stubPKCS10Request"].as_str().unwrap()).unwrap();
        assert_eq!(proves_its_key(&stub), Ok(()));
        // The time for another has come long ago.
        sign(&world, &first, "AAAA", "2020-01-01T00:00:00Z");
        world.ready(&path).await;
        let volume = world.config.data_dir.join("pods/uid-certified/volumes/kubernetes.io~projected/v");
        let read = |name: &str| std::fs::read_to_string(volume.join(name)).unwrap_or_default();
        let (key, chain) = (read("key.pem"), read("chain.pem"));
        assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_eq!(chain, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        assert_eq!(read("bundle.pem"), format!("{key}{chain}"));

        // Whatever has the volume looked at shows that.
        world.api.put("/api/v1/namespaces/ns/configmaps/c", json!({"data": {"text": "2"}}));
        let (second, spec) = asked(&world, "certified", 2).await;
        assert_ne!(
            STANDARD.decode(spec["stubPKCS10Request"].as_str().unwrap()).unwrap(),
            stub,
            "another key"
        );
        sign(&world, &second, "BBBB", "2999-01-01T00:00:00Z");
        let follows = async {
            while !read("chain.pem").contains("\nBBBB\n") {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), follows).await.expect("the file follows");
        assert_ne!(read("key.pem"), key);
    });
}

#[test]
fn who_gets_no_certificate_learns_why() {
    isolated(|| async {
        let world = world();
        create(&world, "denied", "ECDSAP256");
        let (lost, _) = asked(&world, "denied", 1).await;
        // A request that somebody has deleted is made once more.
        world.api.remove(&lost);
        let (path, _) = asked(&world, "denied", 1).await;
        world.api.change(&path, |request| {
            request["status"] = json!({"conditions": [{"type": "Denied", "status": "True", "reason": "No",
                "message": "never", "lastTransitionTime": null}]});
        });
        let told = world.api.event("denied", "Denied").await;
        assert!(told.ends_with(" was denied, reason=\"No\", message=\"never\""), "{told}");
        let failed = world.api.event("denied", "FailedMount").await;
        let why = "PodCertificateRequest was permanently denied: reason=\"No\" message=\"never\"";
        assert_eq!(failed, format!("MountVolume.SetUp failed for volume \"v\" : {why}"));

        create(&world, "other", "RSA3072");
        let failed = world.api.event("other", "FailedMount").await;
        assert!(failed.ends_with("this node makes no keys of type \"RSA3072\""), "{failed}");
    });
}

use serde_json::{Value, json};

use crate::validate::tests::{check, created, updated, with};

const GROUP: &str = "certificates.k8s.io";
const KIND: &str = "ClusterTrustBundle";

fn pem(kind: &str, body: &str) -> String {
    format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n")
}

fn bundle(name: &str, signer: &str, text: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"signerName": signer, "trustBundle": text}})
}

#[test]
fn bundles_are_named_after_their_signers() {
    let good = pem("CERTIFICATE", "MAA=");
    assert_eq!(created(GROUP, KIND, &bundle("plain", "", &good)), [""; 0]);
    assert_eq!(created(GROUP, KIND, &bundle("x.io:signer:v1", "x.io/signer", &good)), [""; 0]);
    check(&[
        (
            GROUP,
            KIND,
            bundle("a:b", "", &good),
            &[
                "metadata.name: Invalid value: \"a:b\": ClusterTrustBundle without signer name must not have \":\" in its name",
            ],
        ),
        (
            GROUP,
            KIND,
            bundle("v1", "x.io/signer", &good),
            &[
                "metadata.name: Invalid value: \"v1\": ClusterTrustBundle for signerName x.io/signer must be named with prefix x.io:signer:",
            ],
        ),
    ]);
    let told = updated(GROUP, KIND, &bundle("a.io:s:v", "a.io/s", &good), &bundle("a.io:s:v", "", &good));
    assert!(told.iter().any(|t| t.starts_with("spec.signerName: Invalid value: ")), "{told:?}");
}

#[test]
fn bundles_hold_certificates_once() {
    let invalid = |detail: &str| format!("spec.trustBundle: Invalid value: \"<value omitted>\": {detail}");
    let (one, other) = (pem("CERTIFICATE", "MAA="), pem("CERTIFICATE", "MAEA"));
    for (text, wanted) in [
        (String::new(), vec!["at least one trust anchor must be provided"]),
        (format!("{one}words{other}{one}"), vec!["duplicate trust anchor (indices [0 2])"]),
        (
            pem("RSA PRIVATE KEY", "MAA=") + &pem("CERTIFICATE", "A: b\n\nMAA=") + &pem("CERTIFICATE", "!!"),
            vec![
                "entry 0 has bad block type: RSA PRIVATE KEY",
                "entry 1 has PEM block headers",
                "entry 2 does not parse as X.509",
            ],
        ),
    ] {
        let told = created(GROUP, KIND, &bundle("b", "", &text));
        assert_eq!(told, wanted.into_iter().map(invalid).collect::<Vec<_>>());
    }
    let kept = bundle("b", "", "");
    let labelled = with(&kept, &json!({"metadata": {"labels": {"a": "b"}}}));
    assert_eq!(updated(GROUP, KIND, &kept, &labelled), [""; 0], "a bundle that stays is not read again");
}

#[test]
fn requests_of_pods_stay_as_they_are() {
    let request = |signer: &str| {
        json!({"spec": {"signerName": signer, "podName": "p", "podUID": "u", "nodeName": "n", "nodeUID": "v",
            "serviceAccountName": "s", "serviceAccountUID": "w", "stubPKCS10Request": "AA=="}})
    };
    let kind = "PodCertificateRequest";
    assert_eq!(created(GROUP, kind, &request("x.io/s")), [""; 0]);
    assert_eq!(
        created(GROUP, kind, &request("")),
        ["spec.signerName: Required value: signerName must be provided"]
    );
    let told = updated(GROUP, kind, &request("x.io/s"), &request("x.io/t"));
    assert!(
        told[0].starts_with("spec: Invalid value: {") && told[0].ends_with("field is immutable"),
        "{told:?}"
    );
}

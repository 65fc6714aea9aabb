use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::*;
use crate::testing::{json as send, server};

/// A key, in PKIX form too.
fn key() -> (Ed25519KeyPair, Vec<u8>) {
    let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
    let mut public = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    public.extend_from_slice(pair.public_key().as_ref());
    (pair, public)
}

#[tokio::test]
async fn nobody_gets_a_certificate_for_anothers_key() {
    let server = server().await;
    let ((pair, public), (other, _)) = (key(), key());
    let ask = async |version: &str, name: &str, fields: Value| {
        let mut spec = json!({"signerName": "x.io/s", "podName": "p", "podUID": "uid", "nodeName": "n",
            "nodeUID": "v", "serviceAccountName": "s", "serviceAccountUID": "w"});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let object = json!({"apiVersion": format!("certificates.k8s.io/{version}"),
            "kind": "PodCertificateRequest", "metadata": {"name": name}, "spec": spec});
        let path = format!("/apis/certificates.k8s.io/{version}/namespaces/default/podcertificaterequests");
        let (code, answer) = send(&server, "POST", &path, object).await;
        let told = answer["message"].as_str().unwrap_or_default();
        (code, told.split_once("is invalid: ").map_or(told, |(_, why)| why).to_owned())
    };
    let by_key = |key: &[u8], proof: &[u8]| json!({"pkixPublicKey": STANDARD.encode(key), "proofOfPossession": STANDARD.encode(proof)});
    let refused = |why: &str| (422, why.to_owned());
    let proof = pair.sign(b"uid");
    assert_eq!(ask("v1beta1", "good", by_key(&public, proof.as_ref())).await.0, 201);
    let unproven = "spec.proofOfPossession: Invalid value: could not verify proof-of-possession signature";
    let others = other.sign(b"uid");
    assert_eq!(ask("v1beta1", "a", by_key(&public, others.as_ref())).await, refused(unproven));
    let of_another_pod = pair.sign(b"other");
    assert_eq!(ask("v1beta1", "a", by_key(&public, of_another_pod.as_ref())).await, refused(unproven));
    let no_key = "spec.pkixPublicKey: Invalid value: \"AAAA\": must be a valid PKIX-serialized public key";
    assert_eq!(ask("v1beta1", "a", by_key(&[0; 3], proof.as_ref())).await, refused(no_key));
    let stub = json!({"stubPKCS10Request": "AAAA"});
    let no_request = "spec.stubPKCS10Request: Invalid value: \"AAAA\": must be a valid DER-serialized PKCS#10 \
                      certificate signing request";
    assert_eq!(ask("v1", "a", stub).await, refused(no_request));
    let mut both = by_key(&public, proof.as_ref());
    both["stubPKCS10Request"] = "AAAA".into();
    let one = "spec.pkixPublicKey: Invalid value: must be empty if spec.stubPKCS10Request is set";
    assert_eq!(ask("v1beta1", "a", both).await, refused(one));
}

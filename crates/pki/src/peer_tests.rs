use super::*;
use crate::{Authority, Leaf, SHORT, Usage};

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn authority() -> Authority {
    let dir = tempfile::tempdir().unwrap();
    Authority::open(dir.path(), "ca", "kubernetes", start()).unwrap()
}

#[test]
fn reads_user_groups_and_expiry() {
    let ca = authority();
    let trust = ClientTrust::new([ca.certificate()]).unwrap();
    let credential = ca.issue(&Leaf::node("node-1"), start()).unwrap();
    let peer = trust.verify(std::slice::from_ref(&credential.certificate), start()).unwrap();
    assert_eq!(peer.user, "system:node:node-1");
    assert_eq!(peer.groups, ["system:nodes"]);
    assert_eq!(peer.not_after, start() + SHORT);
    assert_eq!(peer.credential_id.len(), "X509SHA256=".len() + 64);
}

#[test]
fn certificates_that_prove_nothing_are_rejected() {
    let ca = authority();
    let trust = ClientTrust::new([ca.certificate()]).unwrap();
    let good = ca.issue(&Leaf::scheduler(), start()).unwrap().certificate;
    let foreign = authority().issue(&Leaf::scheduler(), start()).unwrap().certificate;
    let server = Leaf { usage: Usage::Server, ..Leaf::scheduler() };
    let server = ca.issue(&server, start()).unwrap().certificate;
    let nameless = Leaf { common_name: String::new(), ..Leaf::scheduler() };
    let nameless = ca.issue(&nameless, start()).unwrap().certificate;
    let later = start() + SHORT + Duration::from_secs(1);
    let earlier = start() - Duration::from_secs(3600);
    for (case, chain, at, want) in [
        ("none", vec![], start(), Some(Rejected::Absent)),
        ("garbage", vec![CertificateDer::from(vec![1, 2, 3])], start(), None),
        ("another authority's", vec![foreign], start(), None),
        ("a server's", vec![server], start(), None),
        ("nameless", vec![nameless], start(), Some(Rejected::Nameless)),
        ("not yet valid", vec![good.clone()], earlier, None),
        ("before 1970", vec![good.clone()], UNIX_EPOCH - Duration::from_secs(9), None),
    ] {
        let got = trust.verify(&chain, at).expect_err(case);
        assert!(!got.expired(), "{case}");
        if let Some(want) = want {
            assert_eq!(got, want, "{case}");
        }
    }
    let got = trust.verify(std::slice::from_ref(&good), later).expect_err("expired");
    assert!(got.expired(), "{got:?}");
    assert!(trust.verify(&[good], start() + SHORT - Duration::from_secs(1)).is_ok());
}

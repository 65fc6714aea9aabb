use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

fn day(n: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + n * 86_400)
}

fn open(dir: &Path, now: SystemTime) -> Result<Authority> {
    Authority::open(dir, "ca", "kubernetes", now)
}

#[test]
fn is_made_once_and_read_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let made = open(dir.path(), day(0)).unwrap();
    let read = open(dir.path(), day(1)).unwrap();
    assert_eq!(made.pem(), read.pem());
    for file in ["ca.crt", "ca.key"] {
        let mode = fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left aside");
}

#[test]
fn a_crash_between_key_and_certificate_is_made_good() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), day(0)).unwrap();
    let key = fs::read_to_string(dir.path().join("ca.key")).unwrap();
    fs::remove_file(dir.path().join("ca.crt")).unwrap();
    fs::write(dir.path().join("ca.crt.new"), "torn").unwrap();
    open(dir.path(), day(0)).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("ca.key")).unwrap(), key);
    open(dir.path(), day(0)).unwrap();
}

#[test]
fn broken_files_are_refused_with_a_remedy() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage, u64, &str); 6] = [
        ("key is garbage", |d| fs::write(d.join("ca.key"), "garbage").unwrap(), 0, "PKCS#8"),
        ("key is empty", |d| fs::write(d.join("ca.key"), "").unwrap(), 0, "PKCS#8"),
        ("certificate is garbage", |d| fs::write(d.join("ca.crt"), "garbage").unwrap(), 0, "certificate"),
        ("key is gone", |d| fs::remove_file(d.join("ca.key")).unwrap(), 0, "is missing although"),
        (
            "key is another's",
            |d| fs::write(d.join("ca.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap(),
            0,
            "another key",
        ),
        ("expired", |_| (), 3651, "is only valid from"),
    ];
    for (case, damage, at, want) in cases {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), day(0)).unwrap();
        damage(dir.path());
        let Err(error) = open(dir.path(), day(at)) else { panic!("{case}: accepted") };
        let text = error.to_string();
        assert!(text.contains(want), "{case}: {text}");
        assert!(text.contains("ca.") && text.contains("remove"), "{case} names file and remedy: {text}");
    }
}

#[test]
fn issues_for_names_and_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path(), day(0)).unwrap();
    let leaf = Leaf::apiserver(&crate::ServingNames {
        node: "localhost",
        domain: "cluster.local",
        service_address: "10.96.0.1".parse().unwrap(),
        host_addresses: &["192.0.2.7".parse().unwrap()],
        extra: &["api.example.org".to_owned()],
    });
    let credential = authority.issue(&leaf, day(0)).unwrap();
    let (_, certificate) = X509Certificate::from_der(&credential.certificate).unwrap();
    let names: Vec<_> = certificate
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names
        .iter()
        .map(ToString::to_string)
        .collect();
    let dns = |name: &str| format!("DNSName({name})");
    for name in ["kubernetes", "kubernetes.default.svc.cluster.local", "localhost", "api.example.org"] {
        assert!(names.contains(&dns(name)), "{name} in {names:?}");
    }
    for address in ["10.96.0.1", "192.0.2.7", "127.0.0.1"] {
        assert!(!names.contains(&dns(address)), "{address} is an address");
        assert!(leaf.names.iter().any(|n| n == address));
    }
    assert_eq!(names.len(), leaf.names.len());
    assert_eq!(leaf.names.iter().filter(|n| *n == "localhost").count(), 1, "each name once");
    assert!(!certificate.is_ca());
    assert!(certificate.extended_key_usage().unwrap().unwrap().value.server_auth);
    credential.certified_key().unwrap().keys_match().unwrap();
}

#[test]
fn names_that_no_certificate_can_carry_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path(), day(0)).unwrap();
    let leaf = Leaf { names: vec!["bücher".to_owned()], ..Leaf::admin() };
    assert!(matches!(authority.issue(&leaf, day(0)), Err(Error::Issue { .. })));
}

#[test]
fn one_that_somebody_else_keeps_is_read_and_never_made() {
    let dir = tempfile::tempdir().unwrap();
    let own = open(dir.path(), day(0)).unwrap();
    let file = |name: &str| dir.path().join(name);
    let load = |certificate: &str, key: &str, at| Authority::load(&file(certificate), &file(key), day(at));
    let loaded = load("ca.crt", "ca.key", 0).unwrap();
    assert_eq!(loaded.pem(), own.pem());
    assert_eq!(loaded.key().public_key_raw(), own.key().public_key_raw());
    fs::create_dir(file("other")).unwrap();
    open(&file("other"), day(0)).unwrap();
    for (certificate, key, at, named, why) in [
        ("none.crt", "ca.key", 0, "none.crt", "No such file"),
        ("ca.crt", "ca.crt", 0, "ca.crt", "a private key in PEM"),
        ("ca.key", "ca.key", 0, "ca.key", "an authority's certificate"),
        ("ca.crt", "other/ca.key", 0, "ca.crt", "it belongs to another key"),
        ("ca.crt", "ca.key", 3651, "ca.crt", "is only valid from"),
    ] {
        let Err(error) = load(certificate, key, at) else { panic!("{certificate} {key}: accepted") };
        let text = error.to_string();
        assert!(text.contains(named) && text.contains(why), "{certificate} {key}: {text}");
        assert!(!text.contains("remove"), "it is not ours: {text}");
    }
}

#[test]
fn an_authority_of_rsa_in_its_old_form_is_read_and_signs() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (key, certificate) = (file("rsa.key"), file("rsa.crt"));
    let openssl = |arguments: &[&str]| std::process::Command::new("openssl").args(arguments).output();
    if openssl(&["genrsa", "-traditional", "-out", &key, "2048"]).is_err() {
        eprintln!("skipped: there is no openssl");
        return;
    }
    let made = openssl(&[
        "req",
        "-x509",
        "-new",
        "-key",
        &key,
        "-subj",
        "/CN=there",
        "-days",
        "9",
        "-out",
        &certificate,
    ]);
    assert!(made.unwrap().status.success());
    assert!(fs::read_to_string(&key).unwrap().contains("RSA PRIVATE KEY"), "the form that kubeadm writes");
    let authority = Authority::load(Path::new(&certificate), Path::new(&key), SystemTime::now()).unwrap();
    let credential = authority.issue(&Leaf::scheduler(), SystemTime::now()).unwrap();
    fs::write(file("leaf.crt"), credential.certificate_pem).unwrap();
    let verified = openssl(&["verify", "-CAfile", &certificate, &file("leaf.crt")]).unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

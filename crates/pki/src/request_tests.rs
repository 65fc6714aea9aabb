use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

use super::*;
use crate::{ClientTrust, Pki};

fn request(organizations: usize, names: &[SanType]) -> (KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    // rcgen has one value a type; a second organization has to come under its number.
    params.distinguished_name.push(DnType::CommonName, "system:node:n");
    if organizations > 0 {
        params.distinguished_name.push(DnType::OrganizationName, "a");
    }
    if organizations > 1 {
        let more = DnType::CustomDnType(vec![2, 5, 4, 10]);
        params.distinguished_name.push(more, DnValue::Utf8String("b".to_owned()));
    }
    params.subject_alt_names = names.to_vec();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    (key, pem)
}

#[test]
fn a_request_says_who_it_is_for() {
    let names = [
        SanType::DnsName("n.example.com".try_into().unwrap()),
        SanType::IpAddress("10.0.0.1".parse().unwrap()),
        SanType::IpAddress("fd00::1".parse().unwrap()),
        SanType::Rfc822Name("a@example.com".try_into().unwrap()),
        SanType::URI("spiffe://x".try_into().unwrap()),
    ];
    let (_, pem) = request(2, &names);
    let read = SigningRequest::parse(pem.as_bytes()).unwrap();
    assert_eq!(read.common_name, "system:node:n");
    assert_eq!(read.organizations, ["a", "b"]);
    assert_eq!(read.dns_names, ["n.example.com"]);
    assert_eq!(read.addresses, ["10.0.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
    assert_eq!(
        (read.emails.as_slice(), read.uris.as_slice()),
        (&["a@example.com".to_owned()][..], &["spiffe://x".to_owned()][..])
    );
}

#[test]
fn what_is_no_request_is_refused() {
    let (key, pem) = request(1, &[]);
    assert_eq!(SigningRequest::parse(b"x"), Err(NotARequest::NotPem));
    assert_eq!(SigningRequest::parse(key.serialize_pem().as_bytes()), Err(NotARequest::NotPem));
    assert_eq!(SigningRequest::parse(&vec![b'x'; MAX + 1]), Err(NotARequest::TooLong));
    let (_, block) = {
        let mut text = pem.as_bytes();
        pem::from_buf(&mut text).unwrap().unwrap()
    };
    let broken = |at: usize| {
        let mut der = block.clone();
        let at = if at == usize::MAX { der.len() - 1 } else { at };
        der[at] ^= 1;
        SigningRequest::parse(der::pem("CERTIFICATE REQUEST", &der).as_bytes())
    };
    assert_eq!(broken(usize::MAX), Err(NotARequest::Signature));
    // How the signature itself is packed is not signed.
    let (_, whole) = X509CertificationRequest::from_der(&block).unwrap();
    let signed = whole.certification_request_info.raw;
    for at in 3..3 + signed.len() {
        assert!(broken(at).is_err(), "a bit of byte {at} made no difference");
    }
}

#[test]
fn a_signed_request_logs_in_as_its_subject() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path()).unwrap();
    let (_, pem) = request(2, &[]);
    let asked = SigningRequest::parse(pem.as_bytes()).unwrap();
    let now = SystemTime::now();
    let usages = ["digital signature", "key encipherment", "client auth", "client auth"]
        .map(|u| KeyUsage::named(u).unwrap());
    let hour = Duration::from_secs(3600);
    let signed = pki.cluster.sign(&asked, &usages, hour, now).unwrap();

    let certificate = rustls::pki_types::CertificateDer::from_pem_slice(signed.as_bytes()).unwrap();
    let trust = ClientTrust::new([pki.cluster.certificate()]).unwrap();
    let peer = trust.verify(std::slice::from_ref(&certificate), now).unwrap();
    assert_eq!(
        (peer.user.as_str(), peer.groups.as_slice()),
        ("system:node:n", &["a".to_owned(), "b".to_owned()][..])
    );
    assert!(
        trust
            .verify(std::slice::from_ref(&certificate), now + hour + Duration::from_secs(2))
            .unwrap_err()
            .expired()
    );
    assert!(expiry(signed.as_bytes()).unwrap() <= now + hour);

    let (_, read) = X509Certificate::from_der(&certificate).unwrap();
    let usage = read.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature() && usage.value.key_encipherment());
    assert!(!usage.value.key_cert_sign());
    let extended = read.extended_key_usage().unwrap().unwrap();
    assert!(extended.value.client_auth && !extended.value.server_auth);
    assert!(!read.basic_constraints().unwrap().unwrap().value.ca);

    let server = KeyUsage::named("server auth").unwrap();
    let served = pki.cluster.sign(&asked, &[server], hour, now).unwrap();
    let served = rustls::pki_types::CertificateDer::from_pem_slice(served.as_bytes()).unwrap();
    assert!(trust.verify(&[served], now).is_err(), "a server's certificate proves no client");

    let centuries = pki.cluster.sign(&asked, &usages, hour * 24 * 365 * 300, now).unwrap();
    let (_, own) = X509Certificate::from_der(pki.cluster.certificate()).unwrap();
    let end = u64::try_from(own.validity().not_after.timestamp()).unwrap();
    assert_eq!(expiry(centuries.as_bytes()), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(end)));
}

#[test]
fn usages_are_bits_and_numbers() {
    let (_, pem) = request(0, &[]);
    let asked = SigningRequest::parse(pem.as_bytes()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path()).unwrap();
    for (name, bits) in
        [("signing", 1), ("crl sign", 1 << 6), ("encipher only", 1 << 7), ("decipher only", 1 << 8)]
    {
        let usage = KeyUsage::named(name).unwrap();
        let signed = pki.cluster.sign(&asked, &[usage], Duration::from_secs(60), SystemTime::now()).unwrap();
        let der = rustls::pki_types::CertificateDer::from_pem_slice(signed.as_bytes()).unwrap();
        let (_, read) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(read.key_usage().unwrap().unwrap().value.flags, bits, "{name}");
    }
    assert_eq!(KeyUsage::named("flying"), None);
    assert_eq!(expiry(b"x"), None);
}

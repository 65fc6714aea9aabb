use tiphys_cri::v1::AuthConfig;

use super::{Credentials, RegistryAuth, is_loopback};
use crate::image::parse_name;

#[test]
fn plain_http_is_for_this_machine_only() {
    for registry in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.0.1", "[::1]:5000"] {
        assert!(is_loopback(registry), "{registry}");
    }
    for registry in
        ["docker.io", "localhost.example.com", "10.0.0.1:5000", "127.example.com", "[::2]:5000", ""]
    {
        assert!(!is_loopback(registry), "{registry}");
    }
}

#[test]
fn credentials_come_in_three_forms() {
    let get = |auth| Credentials::from_cri(auth).unwrap().0;
    let basic = Some(RegistryAuth::Basic("ann".into(), "p:w".into()));
    let named = AuthConfig { username: "ann".into(), password: "p:w".into(), ..AuthConfig::default() };
    assert_eq!(get(named), basic);
    assert_eq!(get(AuthConfig { auth: "YW5uOnA6dw==".into(), ..AuthConfig::default() }), basic);
    let token = AuthConfig { registry_token: "t".into(), ..AuthConfig::default() };
    assert_eq!(get(token), Some(RegistryAuth::Bearer("t".into())));
    assert_eq!(get(AuthConfig::default()), None);
    assert!(Credentials::from_cri(AuthConfig { auth: "!".into(), ..AuthConfig::default() }).is_err());
}

#[test]
fn short_names_are_docker_hubs() {
    for (short, full) in [
        ("nginx:1.7.9", "docker.io/library/nginx:1.7.9"),
        ("busybox", "docker.io/library/busybox:latest"),
        ("me/app", "docker.io/me/app:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("tiphys.local/pause", "tiphys.local/pause:latest"),
        ("registry.example/a/b:v1", "registry.example/a/b:v1"),
    ] {
        assert_eq!(parse_name(short).unwrap().whole(), full);
    }
    for bad in ["", "UPPER", "a b", "x:", "../x", "x@sha256:zz"] {
        assert!(parse_name(bad).is_err(), "{bad:?}");
    }
}

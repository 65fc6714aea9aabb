use super::Client;
use crate::v1;

#[test]
fn only_unix_endpoints_with_a_path_are_taken() {
    for endpoint in ["", "unix://", "unix://run/x.sock", "/run/x.sock", "tcp://127.0.0.1:1", "unix:///"] {
        let error = Client::connect(endpoint).err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.contains("unix:///path/to/socket")), "{endpoint:?} was taken");
    }
}

#[tokio::test]
async fn an_absent_runtime_is_unavailable() {
    let client = Client::connect("unix:///nonexistent/tiphys.sock").unwrap();
    let status = client.runtime().version(v1::VersionRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
}

#[test]
fn credentials_are_never_printed() {
    let auth = v1::AuthConfig {
        username: "ann".into(),
        password: "s3cret".into(),
        auth: "YW5uOnMzY3JldA==".into(),
        identity_token: "tok1".into(),
        registry_token: "tok2".into(),
        server_address: "registry.example".into(),
    };
    let shown = format!("{auth:?}");
    assert!(shown.contains("ann") && shown.contains("registry.example"));
    assert!(!["s3cret", "YW5u", "tok1", "tok2"].iter().any(|secret| shown.contains(secret)), "{shown}");
}

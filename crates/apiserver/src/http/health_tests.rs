use crate::ApiServer;
use crate::identity::Component;
use crate::testing::{ask, ask_as, server};

async fn get(server: &ApiServer, path: &str) -> (u16, String) {
    let answer = ask(server, "GET", path, &[], "").await;
    (answer.code, String::from_utf8(answer.body.to_vec()).unwrap())
}

#[tokio::test]
async fn checks_can_be_read_one_by_one_left_out_and_together() {
    let server = server().await;
    for endpoint in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(get(&server, endpoint).await, (200, "ok".to_owned()));
        assert_eq!(get(&server, &format!("{endpoint}/etcd")).await, (200, "ok".to_owned()));
        let (code, all) = get(&server, &format!("{endpoint}?verbose&exclude=etcd")).await;
        assert_eq!(code, 200);
        assert!(all.starts_with("[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\n"), "{all}");
        // Those that upstream's suite asks for, where the parts that they are about differ most from ours.
        for name in [
            "rbac/bootstrap-roles",
            "storage-readiness",
            "crd-informer-synced",
            "apiservice-openapi-controller",
        ] {
            assert!(all.contains(&format!("[+]poststarthook/{name} ok\n")), "{all}");
        }
        assert!(all.contains("[+]autoregister-completion ok\n"), "{all}");
        assert!(all.ends_with(&format!("{} check passed\n", &endpoint[1..])), "{all}");
    }
    let (_, all) = get(&server, "/livez?verbose=1&exclude=b&exclude=a").await;
    assert!(
        all.contains("warn: some health checks cannot be excluded: no matches for \"a\",\"b\"\n"),
        "{all}"
    );
    assert_eq!(get(&server, "/livez/informer-sync").await.0, 404);
    assert_eq!(get(&server, "/readyz/informer-sync").await.0, 200);
    assert_eq!(get(&server, "/livezoom").await.0, 404);
}

#[tokio::test]
async fn a_server_on_its_way_out_is_alive_but_not_ready() {
    let server = server().await;
    server.stop();
    assert_eq!(get(&server, "/livez").await.0, 200);
    let (code, all) = get(&server, "/readyz").await;
    assert_eq!(code, 500);
    assert!(all.contains("[+]ping ok\n") && all.contains("[-]shutdown failed: reason withheld\n"), "{all}");
    assert!(all.ends_with("readyz check failed\n"), "{all}");
    assert_eq!(get(&server, "/readyz?exclude=shutdown").await, (200, "ok".to_owned()));
    assert_eq!(
        get(&server, "/readyz/shutdown").await,
        (500, "internal server error: the server is shutting down\n".to_owned())
    );
}

#[tokio::test]
async fn single_checks_need_a_permission() {
    let server = server().await;
    let ask = |path| ask_as(&server, &Component::Dns, "GET", path, &[], "");
    assert_eq!(ask("/livez").await.code, 200);
    assert_eq!(ask("/livez/etcd").await.code, 403);
}

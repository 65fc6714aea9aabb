//! Pulls from a real registry on loopback. They need root, skopeo and docker-registry.

mod common;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tiphys_runtime::Error;
use tiphys_runtime::error::RegistryFailure;
use tiphys_runtime::image::{Credentials, Pull, Store};

struct Registry {
    dir: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Registry {
    /// Starts a registry that wants `ann` and `secret`, with busybox in it as `team/busybox:1`.
    fn start() -> Option<Self> {
        for program in ["skopeo", "docker-registry"] {
            if Command::new(program)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_err()
            {
                eprintln!("skipped: {program} isn't installed");
                return None;
            }
        }
        let dir = tempfile::tempdir().expect("directory");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("port").port();
        let users = dir.path().join("users");
        std::fs::write(&users, "ann:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n")
            .expect("users");
        let config = serde_json::json!({
            "version": "0.1",
            "log": { "level": "error", "accesslog": { "disabled": true } },
            "storage": { "filesystem": { "rootdirectory": dir.path().join("data") } },
            "http": { "addr": format!("127.0.0.1:{port}") },
            "auth": { "htpasswd": { "realm": "test", "path": users } },
        });
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config.to_string()).expect("config");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("registry");
        let registry = Self { dir, port, process };
        let archive = registry.dir.path().join("busybox.tar");
        std::fs::write(&archive, common::busybox_archive()).expect("archive");
        for _ in 0..200 {
            let pushed = Command::new("skopeo")
                .args(["copy", "--insecure-policy", "--dest-tls-verify=false", "--dest-creds", "ann:secret"])
                .arg(format!("docker-archive:{}", archive.display()))
                .arg(format!("docker://{}", registry.image()))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if pushed.is_ok_and(|status| status.success()) {
                return Some(registry);
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("the image can't be pushed");
    }

    fn image(&self) -> String {
        format!("127.0.0.1:{}/team/busybox:1", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have died by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn failure(error: &Error) -> Option<RegistryFailure> {
    match error {
        Error::Registry { kind, .. } => Some(*kind),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_with_the_right_credentials() {
    if common::unable() {
        return;
    }
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().expect("directory");
    let store = Arc::new(Store::open(dir.path()).expect("store"));
    let pull = |name: String, credentials| {
        let store = store.clone();
        async move { Pull::new(store, &name, credentials).expect("name").run(&|_| {}).await }
    };
    let ann = || Credentials::basic("ann", "secret");

    for wrong in [Credentials::default(), Credentials::basic("ann", "guess")] {
        let error = pull(registry.image(), wrong).await.expect_err("refused");
        assert_eq!(failure(&error), Some(RegistryFailure::Denied), "{error}");
    }
    let missing =
        pull(registry.image().replace("busybox:1", "busybox:2"), ann()).await.expect_err("no such tag");
    assert_eq!(failure(&missing), Some(RegistryFailure::Missing), "{missing}");
    let missing =
        pull(registry.image().replace("busybox", "nosuch"), ann()).await.expect_err("no such repository");
    assert_eq!(failure(&missing), Some(RegistryFailure::Missing), "{missing}");
    let nobody =
        TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("port").port();
    let error = pull(format!("127.0.0.1:{nobody}/x:1"), ann()).await.expect_err("nobody listens");
    assert_eq!(failure(&error), Some(RegistryFailure::Unreachable), "{error}");
    assert!(store.list().unwrap().is_empty());

    let image = pull(registry.image(), ann()).await.expect("pulled");
    assert_eq!(store.find(&registry.image()).expect("found"), image);
    let digest = image.digests.first().expect("a digest").clone();
    assert_eq!(store.find(&digest).expect("found by digest"), image);
    assert_eq!(pull(digest, ann()).await.expect("pulled by digest").id, image.id);
    let layer = dir.path().join("layers").join(&image.layers[0][7..19]);
    assert!(layer.join("bin/busybox").exists());
    assert_eq!(std::fs::read_dir(dir.path().join("ingest")).expect("list").count(), 0);
}

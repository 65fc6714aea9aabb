//! Images from a real registry on loopback that wants credentials.

use std::{
    fs::File,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use tiphys_testkit::{Cluster, free_port, image::Image, text};

use crate::{field, manifests};

/// Debian's docker-registry, which lets in `ann` with the password `secret`.
struct Registry {
    dir: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Registry {
    fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = free_port()?;
        let (users, config) = (dir.path().join("users"), dir.path().join("config.yml"));
        std::fs::write(&users, "ann:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n")?;
        let settings = serde_json::json!({
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": dir.path().join("data")}},
            "http": {"addr": format!("127.0.0.1:{port}")},
            "auth": {"htpasswd": {"realm": "test", "path": users}},
        });
        std::fs::write(&config, settings.to_string())?;
        let mut serve = Command::new("docker-registry");
        serve.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { dir, port, process: serve.spawn().context("starting docker-registry")? })
    }

    /// What comes before the names of its images.
    fn prefix(&self) -> String {
        format!("127.0.0.1:{}/", self.port)
    }

    fn push(&self, image: &Image, names: &[&str]) -> Result<()> {
        let archive = self.dir.path().join("image.tar");
        image.write(File::create(&archive)?)?;
        for name in names {
            text(
                Command::new("skopeo")
                    .args(["copy", "--insecure-policy", "--retry-times=5", "--dest-tls-verify=false"])
                    .args(["--dest-creds", "ann:secret"])
                    .arg(format!("docker-archive:{}:{name}", archive.display()))
                    .arg(format!("docker://{}{name}", self.prefix())),
            )?;
        }
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have died by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn images_come_from_a_registry() -> Result<()> {
    let registry = Registry::start()?;
    for (image, names) in manifests::images() {
        registry.push(&image, &names)?;
    }
    let cluster = Cluster::start(69)?;
    let from = registry.prefix();
    let why = field(".status.containerStatuses[0].state.waiting.reason");
    let backs_off = |pod: &str| {
        cluster.eventually("the node tries again later", || {
            Ok(cluster.kubectl(["get", "pod", pod, &why])? == "ImagePullBackOff")
        })
    };
    // Without credentials, and for what is not there yet.
    cluster.kubectl(["run", "stranger", &format!("--image={from}busybox"), "--", "sleep", "3600"])?;
    backs_off("stranger")?;
    let told =
        cluster.kubectl(["get", "events", "--field-selector=involvedObject.name=stranger,reason=Failed"])?;
    ensure!(told.contains("Error: ErrImagePull") && told.contains("Error: ImagePullBackOff"), "{told}");

    manifests::make_room(&cluster)?;
    let server = format!("--docker-server=127.0.0.1:{}", registry.port);
    for namespace in ["default", "sets"] {
        let user = ["--docker-username=ann", "--docker-password=secret"];
        let secret = ["-n", namespace, "create", "secret", "docker-registry", "pull", &server];
        cluster.kubectl(secret.into_iter().chain(user))?;
        let patch = r#"{"imagePullSecrets":[{"name":"pull"}]}"#;
        cluster.kubectl(["-n", namespace, "patch", "serviceaccount", "default", "-p", patch])?;
    }
    cluster.kubectl(["run", "early", &format!("--image={from}late:1"), "--", "sleep", "3600"])?;
    backs_off("early")?;
    registry.push(&Image::busybox(&["late:1"], &["sleep", "1"]), &["late:1"])?;

    manifests::reach_their_goal(&cluster, &from)?;
    cluster.ready(&["pod/early"])?;
    let digest = cluster.kubectl(["get", "pod", "early", &field(".status.containerStatuses[0].imageID")])?;
    ensure!(digest.starts_with(&format!("{from}late@sha256:")), "{digest}");
    backs_off("stranger")?;
    Ok(())
}

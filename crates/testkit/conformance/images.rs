//! What upstream's tests run, made of Debian's packages: one file system under all the names that they ask for.

use std::{fs::File, path::Path};

use anyhow::{Context, Result};
use serde_json::json;
use tiphys_testkit::image::{Layer, archive};

const PATH: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the tests call them, and where Debian keeps them; busybox stands in for everything else.
const PROGRAMS: [(&str, &str); 9] = [
    ("bin/bash", "/usr/bin/bash"),
    ("usr/bin/curl", "/usr/bin/curl"),
    ("usr/bin/dig", "/usr/bin/dig"),
    ("usr/bin/getent", "/usr/bin/getent"),
    ("usr/bin/nc", "/usr/bin/nc.openbsd"),
    ("usr/bin/ping", "/usr/bin/ping"),
    ("usr/bin/ss", "/usr/bin/ss"),
    ("usr/sbin/ip", "/usr/sbin/ip"),
    ("usr/local/bin/etcd", "/usr/bin/etcd"),
];

struct Image {
    names: &'static [&'static str],
    entrypoint: &'static [&'static str],
    command: &'static [&'static str],
    user: &'static str,
}

const fn image(names: &'static [&'static str], command: &'static [&'static str]) -> Image {
    Image { names, entrypoint: &[], command, user: "" }
}

const IMAGES: [Image; 9] = [
    Image {
        entrypoint: &["/agnhost"],
        ..image(
            &["k8s.gcr.io/e2e-test-images/agnhost:2.21", "k8s.gcr.io/e2e-test-images/agnhost:2.20"],
            &["pause"],
        )
    },
    image(&["k8s.gcr.io/pause:3.2"], &["/agnhost", "pause"]),
    Image {
        entrypoint: &["/sample-apiserver"],
        ..image(&["gcr.io/kubernetes-e2e-test-images/sample-apiserver:1.17"], &[])
    },
    image(&["k8s.gcr.io/etcd:3.4.13-0"], &["/usr/local/bin/etcd"]),
    image(
        &[
            "docker.io/library/busybox:1.28",
            "docker.io/library/alpine:3.7",
            "gcr.io/kubernetes-e2e-test-images/ipc-utils:1.0",
        ],
        &["sh"],
    ),
    image(&["gcr.io/kubernetes-e2e-test-images/jessie-dnsutils:1.0"], &["sleep", "infinity"]),
    Image { user: "1234", ..image(&["gcr.io/kubernetes-e2e-test-images/nonroot:1.0"], &["sh"]) },
    image(
        &["gcr.io/kubernetes-e2e-test-images/nonewprivs:1.0"],
        &["sh", "-c", "echo Effective uid: $(/setuid/id -u)"],
    ),
    image(
        &[
            "docker.io/library/httpd:2.4.38-alpine",
            "docker.io/library/httpd:2.4.39-alpine",
            "docker.io/library/nginx:1.14-alpine",
            "docker.io/library/nginx:1.15-alpine",
            "gcr.io/kubernetes-e2e-test-images/nautilus:1.0",
        ],
        &["sh", "-c", "trap 'exit 0' TERM; busybox httpd -f -p 80 -h /usr/local/apache2/htdocs & wait"],
    ),
];

/// Writes the archive; `agnhost`, `localhost.crt` and `localhost.key` of upstream's test images, and its sample server,
/// are taken from where `found` says.
pub(crate) fn write(to: &Path, found: impl Fn(&str) -> Result<std::path::PathBuf>) -> Result<()> {
    let mut layer = Layer::new()?;
    for (name, mode) in
        [("agnhost", 0o755), ("sample-apiserver", 0o755), ("localhost.crt", 0o644), ("localhost.key", 0o644)]
    {
        layer.copy(name, &found(name)?, mode)?;
    }
    layer.link("agnhost-2", "agnhost")?;
    layer.busybox(&["bash", "sh"])?;
    layer.link("bin/sh", "bash")?;
    for (at, from) in PROGRAMS {
        layer.copy(at, from.as_ref(), 0o755)?;
    }
    // The one that takes its owner's rights stands where nobody else looks for `id`.
    layer.copy("setuid/id", "/usr/bin/id".as_ref(), 0o4755)?;
    let users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
    layer.file("etc/passwd", 0o644, users.as_bytes())?;
    layer.file("etc/nsswitch.conf", 0o644, b"hosts: files dns\n")?;
    // Tests take the page away to make a probe fail.
    let page = b"<html><body><h1>It works!</h1></body></html>\n";
    layer.file("usr/local/apache2/htdocs/index.html", 0o644, page)?;
    layer.file("usr/local/apache2/htdocs/data.json", 0o644, br#"{"image": "nautilus.jpg"}"#)?;
    let layer = layer.finish(None)?;
    let images = IMAGES.map(|Image { names, entrypoint, command, user }| {
        let names = names.iter().map(|n| (*n).to_owned()).collect();
        (names, json!({"Entrypoint": entrypoint, "Cmd": command, "User": user, "Env": [PATH]}))
    });
    let out = File::create(to).with_context(|| format!("making {}", to.display()))?;
    archive(out, &layer, &images)
}

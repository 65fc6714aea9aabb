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
    /// How the names of what it stands for end, less their tags: the suite tells the rest.
    repositories: &'static [&'static str],
    entrypoint: &'static [&'static str],
    command: &'static [&'static str],
    user: &'static str,
}

const fn image(repositories: &'static [&'static str], command: &'static [&'static str]) -> Image {
    Image { repositories, entrypoint: &[], command, user: "" }
}

const IMAGES: [Image; 9] = [
    Image { entrypoint: &["/agnhost"], ..image(&["e2e-test-images/agnhost"], &["pause"]) },
    image(&["k8s.gcr.io/pause", "registry.k8s.io/pause"], &["/agnhost", "pause"]),
    Image { entrypoint: &["/sample-apiserver"], ..image(&["e2e-test-images/sample-apiserver"], &[]) },
    image(&["k8s.gcr.io/etcd", "registry.k8s.io/etcd"], &["/usr/local/bin/etcd"]),
    image(&["e2e-test-images/ipc-utils"], &["sh"]),
    image(&["e2e-test-images/jessie-dnsutils", "e2e-test-images/glibc-dns-testing"], &["sleep", "infinity"]),
    Image { user: "1234", ..image(&["e2e-test-images/nonroot"], &["sh"]) },
    image(&["e2e-test-images/nonewprivs"], &["sh", "-c", "echo Effective uid: $(/setuid/id -u)"]),
    image(
        &["library/httpd", "library/nginx", "e2e-test-images/nginx", "e2e-test-images/nautilus"],
        &["sh", "-c", "trap 'exit 0' TERM; busybox httpd -f -p 80 -h /usr/local/apache2/htdocs & wait"],
    ),
];

/// Those of `names` that stand for one of `repositories`.
fn named(names: &[String], repositories: &[&str]) -> Vec<String> {
    let stands_for = |name: &&String| {
        let repository = name.rsplit_once(':').map_or(name.as_str(), |(repository, _)| repository);
        repositories.iter().any(|end| repository.ends_with(end))
    };
    names.iter().filter(stands_for).cloned().collect()
}

/// Writes the archive of busybox' images. Some tests look for the words of its own shell, which they call by its whole
/// path; others want variables whose names are no identifiers to pass through the shell, which Debian's drops.
pub(crate) fn write_busybox(to: &Path, names: &[String]) -> Result<()> {
    let mut layer = Layer::new()?;
    layer.busybox(&[])?;
    layer.copy("usr/local/bin/sh", "/usr/bin/bash".as_ref(), 0o755)?;
    layer.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    let layer = layer.finish(None)?;
    let names = named(names, &["library/busybox", "e2e-test-images/busybox"]);
    let config = json!({"Cmd": ["sh"], "Env": ["PATH=/usr/local/bin:/bin"]});
    let out = File::create(to).with_context(|| format!("making {}", to.display()))?;
    archive(out, &layer, &[(names, config)])
}

/// Writes the archive of those images that `names` tells; `agnhost`, `localhost.crt` and `localhost.key` of upstream's test images, and its sample server,
/// are taken from where `found` says.
pub(crate) fn write(
    to: &Path,
    names: &[String],
    found: impl Fn(&str) -> Result<std::path::PathBuf>,
) -> Result<()> {
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
    let users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n\
                 user-defined-in-image:x:1000:1000::/:/bin/sh\n";
    layer.file("etc/passwd", 0o644, users.as_bytes())?;
    let groups = "root:x:0:\nuser-defined-in-image:x:1000:\n\
                  group-defined-in-image:x:50000:user-defined-in-image\n";
    layer.file("etc/group", 0o644, groups.as_bytes())?;
    layer.file("etc/nsswitch.conf", 0o644, b"hosts: files dns\n")?;
    // Tests take the page away to make a probe fail.
    let page = b"<html><body><h1>It works!</h1></body></html>\n";
    layer.file("usr/local/apache2/htdocs/index.html", 0o644, page)?;
    layer.file("usr/local/apache2/htdocs/data.json", 0o644, br#"{"image": "nautilus.jpg"}"#)?;
    let layer = layer.finish(None)?;
    let images = IMAGES.map(|Image { repositories, entrypoint, command, user }| {
        (
            named(names, repositories),
            json!({"Entrypoint": entrypoint, "Cmd": command, "User": user, "Env": [PATH]}),
        )
    });
    let out = File::create(to).with_context(|| format!("making {}", to.display()))?;
    archive(out, &layer, &images)
}

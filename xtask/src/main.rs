//! The recipes of this repository; run one with `cargo xtask`.

use std::path::PathBuf;

use clap::Parser;

mod bench;
mod binary;
mod checks;
mod clients;
mod command;
mod conformance;
mod differential;
mod dist;
mod fuzz;
mod host;
mod machine;
mod protobuf;
mod removed;
mod schema;
mod simulate;

#[derive(Parser)]
#[command(about)]
enum Task {
    /// Build the static release binary and run `tiphys quickstart` with it.
    ///
    /// Installs the library packages that the build needs, if they are missing.
    Quickstart {
        /// Passed on to `tiphys quickstart`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build the static release binary and print where it is.
    Build,
    /// Build the binary as it is shipped, trained by a client of the bench, and print where it is. Takes three times as long.
    Dist,
    /// Run every check that a change must pass: the one test command.
    Test {
        /// Only these steps, by name.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Measure the release binary, beside upstream's programs where they are installed, and print a table.
    ///
    /// Upstream's programs are looked for in the directories of `REFERENCE_PATH`, then in those of `PATH`.
    Bench {
        /// Only these groups of measures: start, idle, pods, load, api, storage, scheduling.
        groups: Vec<String>,
    },
    /// Run upstream's conformance suite against the release binary and print a table.
    ///
    /// CONTRIBUTING.md says what must be in the directories of `REFERENCE_PATH`.
    Conformance {
        /// Only the cases that this regular expression finds.
        #[arg(default_value = "")]
        focus: String,
    },
    /// Send the same requests to upstream's API server and to ours, and tell how the answers differ.
    ///
    /// `etcd` and `kube-apiserver` (1.20) are looked for in the directories of `REFERENCE_PATH`, then in those of `PATH`.
    Differential {
        /// Only the files of cases that this regular expression finds.
        #[arg(default_value = "")]
        focus: String,
    },
    /// Let libFuzzer look for inputs that break what reads clients' input.
    Fuzz {
        /// Names of targets (all of them, if there is none), `seconds=N` for each, and `input=FILE` to try only that.
        words: Vec<String>,
    },
    /// Play seeds of the simulated control plane: those that a change must pass, if nothing else is said.
    Simulate {
        /// `seeds FIRST COUNT`, `trace SEED`, or `planted [NUMBER…]`: whether planted bugs are found.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Distil the structure of all kinds into the artefact that `tiphys-api` embeds.
    ///
    /// Inputs: `_definitions.json` from PyPI's kubernetes-validate, and checkouts of k8s.io/api and
    /// k8s.io/apimachinery of the same release, from which only one fact a field is read: whether the
    /// reference implementation writes it when it is zero.
    Schema {
        #[arg(long)]
        definitions: PathBuf,
        #[arg(long)]
        go_api: PathBuf,
        #[arg(long)]
        go_apimachinery: PathBuf,
        #[arg(long, default_value = "crates/api/schema/v1_37.txt")]
        out: PathBuf,
    },
    /// Distil the structure of the versions that upstream has removed into the artefact that `tiphys-api` embeds.
    ///
    /// Inputs: directories with Go sources as `<group>/<version>`, the newest release first: k8s.io/api as it is, of
    /// 1.20 and of 1.13, and `pkg/apis` of k8s.io/apiextensions-apiserver and of kube-aggregator of 1.20.
    Removed {
        #[arg(required = true)]
        roots: Vec<PathBuf>,
        #[arg(long, default_value = "crates/api/schema/v1_37.txt")]
        schema: PathBuf,
        #[arg(long, default_value = "crates/api/schema/removed.txt")]
        out: PathBuf,
    },
    /// Distil the field numbers of the protobuf encoding into the artefact that `tiphys-api` embeds.
    ///
    /// Inputs: checkouts of k8s.io/api, apimachinery, apiextensions-apiserver and kube-aggregator, whose
    /// `generated.proto` files are read for names, numbers and types, and the schema artefacts.
    Protobuf {
        #[arg(required = true)]
        roots: Vec<PathBuf>,
        #[arg(long, default_values = ["crates/api/schema/v1_37.txt", "crates/api/schema/removed.txt"])]
        schema: Vec<PathBuf>,
        #[arg(long, default_value = "crates/api/schema/protobuf.txt")]
        out: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Quickstart { arguments } => binary::quickstart(&arguments),
        Task::Build => binary::build().map(|path| println!("{}", path.display())),
        Task::Dist => dist::build().map(|path| println!("{}", path.display())),
        Task::Test { only } => checks::all(&only),
        Task::Bench { groups } => bench::table(&groups),
        Task::Conformance { focus } => conformance::run_suite(&focus),
        Task::Fuzz { words } => fuzz::fuzz(&words),
        Task::Simulate { words } => simulate::simulate(&words),
        Task::Differential { focus } => differential::compare(&focus),
        Task::Schema { definitions, go_api, go_apimachinery, out } => {
            schema::distil(&definitions, &go_api, &go_apimachinery, &out)
        }
        Task::Removed { roots, schema, out } => removed::distil(&roots, &schema, &out),
        Task::Protobuf { roots, schema, out } => protobuf::distil(&roots, &schema, &out),
    }
}

//! The recipes of this repository; run one with `cargo xtask`.

use std::path::PathBuf;

use clap::Parser;

mod schema;

#[derive(Parser)]
#[command(about)]
enum Task {
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
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Schema { definitions, go_api, go_apimachinery, out } => {
            schema::distil(&definitions, &go_api, &go_apimachinery, &out)
        }
    }
}

//! Clients of other makes, doing what their users do.

use std::process::Command;

use anyhow::Result;
use tiphys_testkit::{Cluster, image::Image, program, text};

/// A cluster that has the image which the clients' pods are of.
fn cluster(range: u8) -> Result<Cluster> {
    let cluster = Cluster::start(range)?;
    cluster.import(&Image::busybox(&["busybox:1"], &["sh"]))?;
    Ok(cluster)
}

/// Runs a client, which ends well if everything was as it should be.
fn works(cluster: &Cluster, client: &mut Command) -> Result<()> {
    client.env("KUBECONFIG", cluster.kubeconfig()).env("HOME", cluster.dir());
    text(client).map(drop)
}

#[test]
fn the_python_client_does_real_work() -> Result<()> {
    let cluster = cluster(90)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python/client.py");
    works(&cluster, Command::new(program("PYTHON_CLIENT")?).arg(script))
}

#[test]
fn client_go_does_real_work_in_protobuf() -> Result<()> {
    let cluster = cluster(91)?;
    works(&cluster, &mut Command::new(program("GO_CLIENT")?))
}

//! The binary: reads flags and wires the rooms together.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use tiphys_apiserver::{ApiServer, Config};
use tiphys_pki::Pki;
use tiphys_store::{Embedded, Store};
use tokio::net::TcpListener;

#[derive(Parser)]
#[command(name = "tiphys", version, about = "A whole Kubernetes cluster in one program")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the cluster in the foreground.
    Up(Up),
}

#[derive(Args)]
struct Up {
    /// Where the cluster's state is kept.
    #[arg(long, default_value = "/var/lib/tiphys")]
    data_dir: PathBuf,
    /// The secure port of the API.
    #[arg(long, default_value_t = 6443)]
    secure_port: u16,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match Cli::parse().command {
        Command::Up(up) => run(up).await,
    }
}

async fn run(up: Up) -> anyhow::Result<()> {
    let pki = Arc::new(Pki::open(&up.data_dir.join("pki")).context("opening the cluster's keys")?);
    let store = Arc::new(
        Embedded::open(up.data_dir.join("store"), tiphys_store::embedded::Options::default())
            .context("opening the store")?,
    );
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, up.secure_port))
        .await
        .with_context(|| format!("listening on port {}", up.secure_port))?;
    let port = listener.local_addr().context("asking for the listener's address")?.port();
    let config = Config {
        pki: Arc::clone(&pki),
        names: Vec::new(),
        node_name: nix::unistd::gethostname()?.to_string_lossy().into_owned(),
        domain: "cluster.local".to_owned(),
        clock: Arc::new(SystemTime::now),
        advertise: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        service_range: "10.96.0.0/16".parse().context("the service range")?,
    };
    let server = ApiServer::start(config, Arc::clone(&store) as Arc<dyn Store>).await?;
    let kubeconfig = up.data_dir.join("admin.kubeconfig");
    pki.admin_kubeconfig(&kubeconfig, "tiphys", &format!("https://127.0.0.1:{port}"))?;
    println!("kubeconfig: {}", kubeconfig.display());

    let serving = server.serve(listener);
    tokio::pin!(serving);
    tokio::select! {
        done = &mut serving => done?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            server.stop();
            serving.await?;
        }
    }
    store.close().await;
    Ok(())
}

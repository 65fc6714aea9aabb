//! What the integration tests run: the shim's executable, and a server that can be killed.
//!
//! `runtime-harness shim DIR` is a shim; `runtime-harness serve ROOT INSTANCE` serves CRI on `ROOT.sock`;
//! `runtime-harness cleanup ROOT INSTANCE` removes everything again.

use std::process::ExitCode;
use std::sync::Arc;

use tiphys_cri::v1::image_service_server::ImageServiceServer;
use tiphys_cri::v1::runtime_service_server::RuntimeServiceServer;
use tiphys_runtime::network::Loopback;
use tiphys_runtime::{Config, Runtime};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let command = args.next().unwrap_or_default();
    if command == "shim" {
        return tiphys_runtime::shim::main(args);
    }
    let root = args.next().unwrap_or_default();
    let instance = args.next().unwrap_or_default().to_string_lossy().into_owned();
    if command == "cleanup" {
        return match tiphys_runtime::cleanup(std::path::Path::new(&root), &instance) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("tokio starts");
    let done = tokio.block_on(async {
        match command.to_str() {
            Some("serve") => serve(root.into(), instance).await,
            _ => Err("usage: runtime-harness shim|serve|cleanup".into()),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(root: std::path::PathBuf, instance: String) -> Result<(), Box<dyn std::error::Error>> {
    let socket = root.with_extension("sock");
    let runtime = Runtime::open(Config {
        root,
        instance,
        shim_exe: std::env::current_exe()?,
        shim_arguments: vec!["shim".into()],
        network: Arc::new(Loopback),
    })
    .await?;
    if socket.exists() {
        std::fs::remove_file(&socket)?;
    }
    let listener = tokio::net::UnixListener::bind(&socket)?;
    tonic::transport::Server::builder()
        .add_service(RuntimeServiceServer::new(runtime.clone()))
        .add_service(ImageServiceServer::new(runtime))
        .serve_with_incoming(tokio_stream::wrappers::UnixListenerStream::new(listener))
        .await?;
    Ok(())
}

//! The way to a simulated kubelet's API: of its pages there is the one that tells what pods use.

use std::{convert::Infallible, io, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tiphys_apiserver::node_proxy::{NodeDialer, Stream};

use crate::{machine::Machine, network::Network};

/// What a pipe holds, in bytes: more than is ever on its way.
pub(crate) const PIPE: usize = 1 << 20;

pub(crate) struct Meter {
    pub(crate) machine: Arc<Machine>,
    pub(crate) network: Arc<Network>,
}

#[async_trait]
impl NodeDialer for Meter {
    async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        if !self.machine.is_up() || self.network.is_cut(&self.machine.name) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let machine = Arc::clone(&self.machine);
        let answer = service_fn(move |_| {
            let page = Full::new(Bytes::from(machine.usage()));
            async move { Ok::<_, Infallible>(Response::new(page)) }
        });
        // It ends with the caller's end of the pipe.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(theirs), answer));
        Ok(Box::new(ours))
    }
}

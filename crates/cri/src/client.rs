use std::convert::Infallible;

use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Endpoint;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceExt};

use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::image_service_server::{ImageService, ImageServiceServer};
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};

/// The largest message either side accepts, as the kubelet has it: a list of all containers of a full node.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// What both generated clients talk through: a gRPC channel, or the servers themselves.
pub type Transport = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, TransportError>;

/// A call did not reach the runtime. A type of its own: with a bare box the compiler can't see that the calls'
/// futures are `Send`.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct TransportError(BoxError);

/// A runtime's two services behind one transport. Cloning is cheap, and every call may be made from any task.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
}

/// The endpoint given to [`Client::connect`] can't be one.
#[derive(Debug, thiserror::Error)]
#[error("the runtime endpoint {endpoint:?} is not of the form unix:///path/to/socket")]
pub struct ConnectError {
    endpoint: String,
    #[source]
    source: Option<tonic::transport::Error>,
}

impl Client {
    /// Talks to servers in this process: a call is a function call with an encoded message, and no socket.
    pub fn in_process<R: RuntimeService, I: ImageService>(
        runtime: RuntimeServiceServer<R>,
        images: ImageServiceServer<I>,
    ) -> Self {
        let routes = Routes::new(runtime.max_decoding_message_size(MAX_MESSAGE_BYTES))
            .add_service(images.max_decoding_message_size(MAX_MESSAGE_BYTES))
            .prepare();
        let never = |infallible: Infallible| match infallible {};
        let transport = ServiceExt::<http::Request<Body>>::map_err(routes, never);
        Self { transport: BoxCloneSyncService::new(transport) }
    }

    /// Talks to the runtime that listens on `endpoint`, `unix:///run/containerd/containerd.sock` for example.
    ///
    /// The connection is made by the first call and again after it broke; until then and meanwhile calls answer
    /// `UNAVAILABLE`.
    ///
    /// # Errors
    /// When the endpoint isn't `unix://` and an absolute path.
    pub fn connect(endpoint: &str) -> Result<Self, ConnectError> {
        let refused = |source| ConnectError { endpoint: endpoint.to_owned(), source };
        if !endpoint.strip_prefix("unix://").is_some_and(|path| path.len() > 1 && path.starts_with('/')) {
            return Err(refused(None));
        }
        let channel =
            Endpoint::try_from(endpoint.to_owned()).map_err(|source| refused(Some(source)))?.connect_lazy();
        let transport =
            ServiceExt::<http::Request<Body>>::map_err(channel, |error| TransportError(error.into()));
        Ok(Self { transport: BoxCloneSyncService::new(transport) })
    }

    /// A client of the runtime service. Make one for each call: it is only a handle.
    pub fn runtime(&self) -> RuntimeServiceClient<Transport> {
        RuntimeServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// A client of the image service. Make one for each call: it is only a handle.
    pub fn images(&self) -> ImageServiceClient<Transport> {
        ImageServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;

//! The proxy and DNS as clients of the real API server, each with the rights of its own identity.

use std::{net::SocketAddr, path::Path, sync::Arc, time::SystemTime};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Client,
    api::{Api, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tiphys_apiserver::{ApiServer, Config, identity::Component};
use tiphys_network::{Proxy, dns};
use tiphys_pki::Pki;
use tiphys_store::memory::Memory;

use crate::{
    live::{dns_config, proxy_config, resolve, until},
    proxy::pods,
    support::{Netns, on_a_host},
};

async fn api_server(dir: &Path) -> ApiServer {
    let config = Config {
        pki: Arc::new(Pki::open(&dir.join("pki")).unwrap()),
        names: Vec::new(),
        node_name: "here".to_owned(),
        domain: "cluster.local".to_owned(),
        clock: Arc::new(SystemTime::now),
        advertise: SocketAddr::from(([10, 244, 0, 1], 6443)),
        service_range: "10.96.0.0/16".parse().unwrap(),
        node_ports: 30_000..=32_767,
        removed_apis: true,
        others: Default::default(),
        authorizers: Default::default(),
        audit: Default::default(),
        admission: Default::default(),
        trace: None,
        shared: false,
        dial: None,
    };
    ApiServer::start(config, Arc::new(Memory::default())).await.unwrap()
}

#[test]
fn services_of_the_real_api_server_work() {
    on_a_host(|host| async move {
        let dir = tempfile::tempdir().unwrap();
        let network = pods(dir.path()).await;
        let (a, client) = (Netns::new(), Netns::new());
        for (id, netns) in [("a", &a), ("client", &client)] {
            network.attach(&netns.path(), id, &[]).await.unwrap();
        }
        a.serve(8080, "a");
        let server = api_server(dir.path()).await;
        let connect = |component| Client::new(server.connector(&component), "default");
        let admin = connect(Component::ApiServer);
        tokio::spawn(Proxy::run(connect(Component::Proxy), proxy_config(), std::future::pending()));
        tokio::spawn(dns::run(
            connect(Component::Dns),
            connect(Component::ApiServer),
            dns_config(dir.path()),
            std::future::pending(),
        ));

        let services: Api<Service> = Api::namespaced(admin.clone(), "default");
        let slices: Api<EndpointSlice> = Api::namespaced(admin.clone(), "default");
        let service = json!({"metadata": {"name": "web"}, "spec": {
            "type": "NodePort", "ports": [{"port": 80, "nodePort": 30123}]}});
        let made =
            services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
        let address = made.spec.unwrap().cluster_ip.unwrap();
        let slice = json!({"metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"name": "", "port": 8080}],
            "endpoints": [{"addresses": ["10.244.0.2"]}]});
        slices.create(&PostParams::default(), &serde_json::from_value(slice).unwrap()).await.unwrap();
        for (from, to) in [
            (client.clone(), format!("{address}:80")),
            (host.clone(), format!("{address}:80")),
            (host.clone(), "127.0.0.1:30123".to_owned()),
        ] {
            until("a".to_owned(), move || from.ask(&to).map_or_else(|e| e.to_string(), |(name, _)| name))
                .await;
        }
        let from = client.clone();
        until(vec![address.clone()], move || resolve(&from, "web.default.svc.cluster.local.")).await;
        let kube_dns: Service = Api::namespaced(admin, "kube-system").get("kube-dns").await.unwrap();
        assert_eq!(kube_dns.spec.unwrap().cluster_ip.unwrap(), "10.96.0.10");

        let gone = json!({"endpoints": []});
        slices.patch("web-1", &PatchParams::default(), &Patch::Merge(gone)).await.unwrap();
        let to = format!("{address}:80");
        until(std::io::ErrorKind::ConnectionRefused, move || {
            client.ask(&to).map_or_else(|e| e.kind(), |_| std::io::ErrorKind::Other)
        })
        .await;
        server.stop();
    });
}

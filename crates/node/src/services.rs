//! What the node keeps of Services: enough for environment variables.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;

/// A Service with a cluster IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its cluster IP; empty for one without.
    pub ip: String,
    /// Name, protocol in capitals and number of each port.
    pub ports: Vec<(String, String, i32)>,
}

impl ServiceFacts {
    /// Keeps what is needed.
    pub fn of(service: Service) -> Self {
        let spec = service.spec.unwrap_or_default();
        let external = spec.type_.as_deref() == Some("ExternalName");
        let ip = spec.cluster_ip.filter(|ip| ip != "None" && !external).unwrap_or_default();
        let ports =
            spec.ports.into_iter().flatten().map(|p| {
                (p.name.unwrap_or_default(), p.protocol.unwrap_or_else(|| "TCP".to_owned()), p.port)
            });
        Self {
            namespace: service.metadata.namespace.unwrap_or_default(),
            name: service.metadata.name.unwrap_or_default(),
            ip,
            ports: ports.collect(),
        }
    }

    /// Adds its variables: `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT` and the older `NAME_PORT_…` family.
    pub fn variables(&self, vars: &mut BTreeMap<String, String>) {
        let Some((_, first_protocol, first_port)) = self.ports.first() else { return };
        if self.ip.is_empty() {
            return;
        }
        let name = variable_part(&self.name);
        let host = if self.ip.contains(':') { format!("[{}]", self.ip) } else { self.ip.clone() };
        let mut set = |suffix: String, value: String| vars.insert(format!("{name}_{suffix}"), value);
        set("SERVICE_HOST".into(), self.ip.clone());
        set("SERVICE_PORT".into(), first_port.to_string());
        set("PORT".into(), format!("{}://{host}:{first_port}", first_protocol.to_lowercase()));
        for (port_name, protocol, port) in &self.ports {
            if !port_name.is_empty() {
                set(format!("SERVICE_PORT_{}", variable_part(port_name)), port.to_string());
            }
            let lower = protocol.to_lowercase();
            let prefix = format!("PORT_{port}_{}", protocol.to_uppercase());
            set(prefix.clone(), format!("{lower}://{host}:{port}"));
            set(format!("{prefix}_PROTO"), lower);
            set(format!("{prefix}_PORT"), port.to_string());
            set(format!("{prefix}_ADDR"), self.ip.clone());
        }
    }
}

fn variable_part(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

//! ComponentStatuses, which nobody stores: they are found out when somebody asks.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use tiphys_api::status::Status;

use super::body::Body;
use super::encode::ListMeta;
use super::{Asked, Handler, respond, stream};
use crate::registry::Call;

const STORE: &str = "etcd-0";
/// The scheduler and the controllers are rooms of this process, which ends when one of them does: who can be asked
/// for their health answers for them.
const COMPONENTS: [&str; 3] = ["controller-manager", "scheduler", STORE];

fn status(name: &str, health: Result<(), String>) -> Value {
    let condition = match health {
        Ok(()) => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Err(why) => json!({"type": "Healthy", "status": "False", "message": why.as_str(), "error": why}),
    };
    json!({
        "apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name}, "conditions": [condition],
    })
}

impl Handler {
    /// One component, or all of them where the call names none.
    pub(super) async fn component_statuses(
        &self,
        call: &Call,
        asked: &Asked,
    ) -> Result<Response<Body>, Status> {
        asked.warnings.add("v1 ComponentStatus is deprecated in v1.19+");
        let view = self.view(call, asked, false)?;
        let mut found = Vec::new();
        let filter = super::resource::filter(call, asked)?;
        let asked_for = |name: &str| match &*call.name {
            "" => {
                filter.labels.matches_by(|_| None)
                    && filter.fields.matches(|field| if field == "metadata.name" { name } else { "" })
            }
            only => only == name,
        };
        for name in COMPONENTS.into_iter().filter(|name| asked_for(name)) {
            let health = if name == STORE { self.store_health().await } else { Ok(()) };
            found.push(Bytes::from(status(name, health).to_string()));
        }
        if call.name.is_empty() {
            let meta = ListMeta { resource_version: String::new(), next: None, remaining: None };
            return stream::list(view, meta, found.into_iter(), &asked.head.headers);
        }
        // Upstream names it as nobody else does.
        let found = found.first().ok_or_else(|| Status::not_found("", "componentstatus", &call.name))?;
        Ok(respond::whole(StatusCode::OK, view.content_type(), view.object(found)?, &asked.head.headers))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};
    use tiphys_store::Memory;

    use crate::testing::{ADVERTISED, ask, json as send, server_on};

    const PATH: &str = "/api/v1/componentstatuses";

    #[tokio::test]
    async fn components_are_as_healthy_as_they_are_found() {
        let store = Arc::new(Memory::new());
        let server = server_on(ADVERTISED, store.clone()).await;
        let (code, list) = send(&server, "GET", PATH, Value::Null).await;
        assert_eq!((code, &list["kind"]), (200, &json!("ComponentStatusList")));
        let names: Vec<_> =
            list["items"].as_array().unwrap().iter().map(|c| &c["metadata"]["name"]).collect();
        assert_eq!(names, ["controller-manager", "scheduler", "etcd-0"]);
        let one = ask(&server, "GET", &format!("{PATH}/etcd-0"), &[], "").await;
        assert_eq!(one.json()["conditions"], json!([{"type": "Healthy", "status": "True", "message": "ok"}]));
        assert!(one.headers["warning"].to_str().unwrap().contains("deprecated in v1.19+"));
        let (code, none) = send(&server, "GET", &format!("{PATH}/none"), Value::Null).await;
        assert_eq!((code, &none["message"]), (404, &json!("componentstatus \"none\" not found")));
        let none = send(&server, "GET", &format!("{PATH}?labelSelector=a%3Db"), Value::Null).await.1;
        assert_eq!(none["items"], json!([]));
        let table = [("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")];
        let table = ask(&server, "GET", PATH, &table, "").await.json();
        assert_eq!(
            (&table["kind"], &table["rows"][0]["cells"][0]),
            (&json!("Table"), &json!("controller-manager"))
        );

        store.close();
        let (_, one) = send(&server, "GET", &format!("{PATH}/etcd-0"), Value::Null).await;
        assert_eq!(one["conditions"][0]["status"], "False");
    }
}

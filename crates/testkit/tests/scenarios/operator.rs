//! An operator of kube-rs: a kind of its own, made and kept by a controller.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Event as Recorded},
    rbac::v1::Role,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Config, CustomResource, CustomResourceExt, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{
        Controller, WatchStreamExt,
        conditions::is_crd_established,
        controller::Action,
        events::{Event, EventType, Recorder, Reporter},
        finalizer::{Event as Stage, finalizer},
        wait::{await_condition, conditions::is_deleted},
        watcher,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tiphys_testkit::Cluster;

/// As many lines of a word as somebody wishes, in a ConfigMap.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "operator.example.com",
    version = "v1",
    kind = "Echo",
    plural = "echoes",
    namespaced,
    shortname = "ec"
)]
#[kube(status = "EchoStatus", derive = "PartialEq")]
#[kube(printcolumn = r#"{"name":"Lines","type":"integer","jsonPath":".status.lines"}"#)]
#[derive(PartialEq)]
struct EchoSpec {
    word: String,
    #[schemars(range(min = 1, max = 9))]
    #[serde(default = "one")]
    times: u32,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
struct EchoStatus {
    lines: u32,
}

fn one() -> u32 {
    1
}

const MANAGER: &str = "echoes";

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Finalizer(#[from] Box<kube::runtime::finalizer::Error<kube::Error>>),
}

struct Operator {
    client: Client,
    recorder: Recorder,
}

/// Brings the ConfigMap and the status of an Echo about; what it leaves in a second one goes by its finalizer.
async fn reconcile(echo: Arc<Echo>, operator: Arc<Operator>) -> Result<Action, Error> {
    let namespace = echo.namespace().unwrap_or_default();
    let echoes: Api<Echo> = Api::namespaced(operator.client.clone(), &namespace);
    let done = finalizer(&echoes, "operator.example.com/tidy", echo, |stage| async {
        match stage {
            Stage::Apply(echo) => apply(&echo, &operator).await,
            Stage::Cleanup(echo) => {
                let maps: Api<ConfigMap> = Api::namespaced(operator.client.clone(), &namespace);
                // Nobody owns this one, so that nobody else collects it.
                maps.delete(&format!("{}-note", echo.name_any()), &DeleteParams::default()).await?;
                Ok(Action::await_change())
            }
        }
    });
    done.await.map_err(|e| Error::Finalizer(Box::new(e)))
}

async fn apply(echo: &Echo, operator: &Operator) -> Result<Action, kube::Error> {
    let (name, namespace) = (echo.name_any(), echo.namespace().unwrap_or_default());
    let maps: Api<ConfigMap> = Api::namespaced(operator.client.clone(), &namespace);
    let lines = vec![echo.spec.word.as_str(); echo.spec.times as usize].join("\n");
    let params = PatchParams::apply(MANAGER).force();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "ownerReferences": [echo.controller_owner_ref(&())]},
        "data": {"lines": lines},
    });
    maps.patch(&name, &params, &Patch::Apply(map)).await?;
    let note = format!("{name}-note");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": note}});
    maps.patch(&note, &params, &Patch::Apply(map)).await?;
    let echoes: Api<Echo> = Api::namespaced(operator.client.clone(), &namespace);
    let status = json!({"status": EchoStatus { lines: echo.spec.times }});
    echoes.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    let event = Event {
        type_: EventType::Normal,
        reason: "Echoed".to_owned(),
        note: Some(format!("{} lines", echo.spec.times)),
        action: "Echo".to_owned(),
        secondary: None,
    };
    operator.recorder.publish(&event, &echo.object_ref(&())).await?;
    Ok(Action::await_change())
}

/// A fast answer to a failure, which another's write in between is.
fn again(_: Arc<Echo>, _: &Error, _: Arc<Operator>) -> Action {
    Action::requeue(Duration::from_millis(100))
}

async fn client(cluster: &Cluster) -> Result<Client> {
    // The first who asks chooses for the whole process; whoever came before has chosen the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let file = Kubeconfig::read_from(cluster.kubeconfig()).context("reading the kubeconfig")?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Waits until an object is as it should be. The watch begins with the objects that there are (KEP-3157).
async fn until<K>(api: Api<K>, what: &str, holds: impl Fn(&K) -> bool) -> Result<K>
where
    K: Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let mut changes = std::pin::pin!(
        watcher(api, watcher::Config::default().streaming_lists()).default_backoff().applied_objects()
    );
    let found = async {
        while let Some(object) = changes.try_next().await? {
            if holds(&object) {
                return anyhow::Ok(object);
            }
        }
        anyhow::bail!("the watch ended")
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.with_context(|| what.to_owned())?
}

async fn work(cluster: &mut Cluster) -> Result<()> {
    let own = client(cluster).await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(own.clone());
    let params = PatchParams::apply(MANAGER);
    definitions.patch("echoes.operator.example.com", &params, &Patch::Apply(Echo::crd())).await?;
    await_condition(definitions.clone(), "echoes.operator.example.com", is_crd_established()).await?;

    let (echoes, maps) =
        (Api::<Echo>::default_namespaced(own.clone()), Api::<ConfigMap>::default_namespaced(own.clone()));
    let recorder = Recorder::new(own.clone(), Reporter { controller: MANAGER.to_owned(), instance: None });
    let operator = Arc::new(Operator { client: own.clone(), recorder });
    let config = watcher::Config::default().streaming_lists();
    let controller = Controller::new(echoes.clone(), config.clone())
        .owns(maps.clone(), config)
        .run(reconcile, again, operator)
        // Some fail while the server is away; all of it is told when the test fails.
        .for_each(|done| async move {
            if let Err(error) = done {
                eprintln!("{error:?}");
            }
        });
    let controller = tokio::spawn(controller);

    let wish = Echo::new("hello", EchoSpec { word: "hello".to_owned(), times: 2 });
    echoes.create(&PostParams::default(), &wish).await?;
    until(echoes.clone(), "two lines", |e| e.status.as_ref().is_some_and(|s| s.lines == 2)).await?;
    let lines = |wanted: &'static str| {
        let maps = maps.clone();
        let holds =
            move |m: &ConfigMap| m.data.as_ref().is_some_and(|d| d.get("lines").is_some_and(|l| l == wanted));
        async move { until(maps, wanted, holds).await }
    };
    lines("hello\nhello").await?;
    let table = cluster.kubectl(["get", "ec"])?;
    ensure!(table.split_whitespace().eq(["NAME", "LINES", "hello", "2"]), "{table}");
    ensure!(
        cluster
            .refused(["patch", "ec", "hello", "--type=merge", "-p", r#"{"spec":{"times":10}}"#])?
            .contains("spec.times")
    );

    // What somebody else changes or removes is put back.
    cluster.kubectl(["patch", "configmap", "hello", "--type=merge", "-p", r#"{"data":{"lines":"bye"}}"#])?;
    lines("hello\nhello").await?;
    cluster.kubectl(["delete", "configmap", "hello"])?;
    lines("hello\nhello").await?;
    let events: Api<Recorded> = Api::default_namespaced(own.clone());
    until(events, "an event", |e| {
        e.reason.as_deref() == Some("Echoed") && e.involved_object.kind.as_deref() == Some("Echo")
    })
    .await?;

    // The server goes and comes back; the controller's watches begin anew.
    cluster.kill()?;
    cluster.up()?;
    cluster.kubectl([
        "patch",
        "ec",
        "hello",
        "--type=merge",
        "-p",
        r#"{"spec":{"word":"again","times":1}}"#,
    ])?;
    lines("again").await?;

    let gone = echoes.get("hello").await?.uid().context("a UID")?;
    echoes.delete("hello", &DeleteParams::default()).await?;
    await_condition(echoes.clone(), "hello", is_deleted(&gone)).await?;
    ensure!(maps.get_opt("hello-note").await?.is_none(), "the finalizer has not tidied up");
    cluster.eventually("what it owned is collected", || {
        Ok(cluster.kubectl(["get", "configmap", "hello", "--ignore-not-found"])?.is_empty())
    })?;
    controller.abort();

    // Lists in pages, of a kind that was never asked for before.
    let roles = Api::<Role>::namespaced(own, "kube-system");
    let page = roles.list(&ListParams::default().limit(1)).await?;
    let next = page.metadata.continue_.clone().context("a second page")?;
    let rest = roles.list(&ListParams::default().continue_token(&next)).await?;
    ensure!(rest.metadata.resource_version == page.metadata.resource_version && !rest.items.is_empty());
    definitions.delete("echoes.operator.example.com", &DeleteParams::default()).await?;
    Ok(())
}

#[test]
fn an_operator_of_kube_rs_does_real_work() -> Result<()> {
    let mut cluster = Cluster::start(92)?;
    // The scenario asks kubectl, too, and waits for it.
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work(&mut cluster))
}

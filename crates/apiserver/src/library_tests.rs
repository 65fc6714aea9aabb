use serde_json::{Value, json};
use tiphys_api::{
    custom::{Compiler, Converter, Rules, Structural, row},
    kind::Kind,
};

use super::*;

/// Compiles nothing.
struct Nobody;

impl Compiler for Nobody {
    fn rules(&self, _: &Structural) -> Option<Arc<dyn Rules>> {
        None
    }
    fn converter(&self, _: &Value) -> Arc<dyn Converter> {
        unreachable!("no definition here has a webhook")
    }
}

/// A custom kind whose objects have a field of this name.
fn custom(n: usize, field: &str) -> Kind {
    let names = json!({"plural": format!("things{n}"), "singular": format!("thing{n}"),
                       "kind": format!("Thing{n}"), "listKind": format!("Thing{n}List")});
    let schema = json!({"type": "object", "properties": {field: {"type": "string"}}});
    let definition = json!({
        "metadata": {"name": format!("things{n}.example.com")},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
             "subresources": {"status": {}}},
        ]},
        "status": {"acceptedNames": names},
    });
    row(&definition, &Nobody)
}

fn names() -> Vec<Name> {
    let v3 = |group: &str, version: &str| Name::V3 { group: group.into(), version: version.into() };
    vec![
        Name::Discovery { core: true },
        Name::Discovery { core: false },
        Name::V2,
        Name::V2Protobuf,
        Name::V3Index,
        v3("apps", "v1"),
        v3("example.com", "v1"),
    ]
}

async fn read(library: &Library, kinds: &Arc<Kinds>, name: &Name) -> Option<Document> {
    library.get(kinds, &Descriptions::default(), false, name.clone()).await.unwrap()
}

/// Whether the library's documents are those of one that knows nothing.
async fn agree(library: &Library, kinds: &Arc<Kinds>, when: &str) {
    for name in names() {
        let (kept, anew) = (read(library, kinds, &name).await, read(&Library::default(), kinds, &name).await);
        assert!(kept == anew, "{name:?} {when}");
        assert!(read(library, kinds, &name).await == anew, "{name:?} {when}, asked again");
    }
}

/// Whatever came and went before: the documents are those of a library that knows nothing.
#[tokio::test]
async fn documents_follow_the_rows() {
    let library = Library::default();
    let mut kinds = Arc::new(Kinds::builtin());
    agree(&library, &kinds, "of built-in kinds").await;
    assert_eq!(read(&library, &kinds, &names()[6]).await, None);
    for n in 0..3 {
        Arc::make_mut(&mut kinds).insert(custom(n, "size")).unwrap();
    }
    agree(&library, &kinds, "with three more").await;
    Arc::make_mut(&mut kinds).remove("example.com", "things0").unwrap();
    Arc::make_mut(&mut kinds).remove("example.com", "things1").unwrap();
    Arc::make_mut(&mut kinds).insert(custom(1, "length")).unwrap();
    agree(&library, &kinds, "with one less, and one that is another").await;
    let text = async |name: &Name| {
        String::from_utf8_lossy(&read(&library, &kinds, name).await.unwrap().body).into_owned()
    };
    for name in &names()[2..] {
        let of_apps = matches!(name, Name::V3 { group, .. } if group == "apps");
        let text = text(name).await;
        let mentions = text.contains("Thing1") || text.contains("apis/example.com/v1?hash");
        assert_eq!(mentions, !of_apps, "{name:?}");
    }
    let v3: Value = serde_json::from_str(&text(&names()[6]).await).unwrap();
    let properties = &v3["components"]["schemas"]["com.example.v1.Thing1"]["properties"];
    assert!(properties["length"].is_object() && properties["size"].is_null());
    assert!(v3["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"].is_object());
}

#[tokio::test]
async fn a_row_is_described_once() {
    let library = Library::default();
    let mut kinds = Arc::new(Kinds::builtin());
    for n in 0..3 {
        Arc::make_mut(&mut kinds).insert(custom(n, "size")).unwrap();
    }
    let before = read(&library, &kinds, &Name::V2).await;
    Arc::make_mut(&mut kinds).insert(custom(3, "size")).unwrap();
    assert!(read(&library, &kinds, &Name::V2).await != before);
    let mut shelf = library.0.lock().await;
    let place = kinds.group_resource("example.com", "things0").unwrap();
    let _ = shelf.discovered.get(place, "v1", || "kept".into());
    drop(shelf);
    Arc::make_mut(&mut kinds).insert(custom(4, "size")).unwrap();
    let discovery = read(&library, &kinds, &Name::Discovery { core: false }).await.unwrap();
    assert!(String::from_utf8_lossy(&discovery.body).contains(r#""resources":[kept,{"#));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_is_let_go() {
    let (library, kinds) = (Library::default(), Arc::new(Kinds::builtin()));
    let made = || library.0.try_lock().unwrap().made.len();
    read(&library, &kinds, &Name::V3Index).await;
    tokio::time::sleep(KEPT / 2).await;
    read(&library, &kinds, &Name::V3Index).await;
    tokio::time::sleep(KEPT / 2 + Duration::from_secs(1)).await;
    assert_eq!(made(), 1, "it was asked for meanwhile");
    tokio::time::sleep(KEPT).await;
    assert_eq!(made(), 0);
    assert!(library.0.try_lock().unwrap().of.is_none());
    // And begins anew.
    read(&library, &kinds, &Name::V3Index).await;
    tokio::time::sleep(KEPT * 2).await;
    assert_eq!(made(), 0);
}

/// On a runtime whose one thread the making of a document would otherwise hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn others_are_served_while_a_document_is_made() {
    let (library, kinds) = (Library::default(), Arc::new(Kinds::builtin()));
    let mut making = Box::pin(read(&library, &kinds, &Name::V2));
    let mut polls = 0;
    let document = std::future::poll_fn(|cx| {
        polls += 1;
        making.as_mut().poll(cx)
    });
    assert!(document.await.is_some());
    assert!(polls > 1, "it was made on the runtime's own thread");
}

#[tokio::test]
async fn what_others_say_is_in_openapi_v2() {
    let (library, kinds) = (Library::default(), Arc::new(Kinds::builtin()));
    let document =
        json!({"swagger": "2.0", "paths": {"/apis/a.example.com/v1/": {"get": {"operationId": "getA"}}}});
    let said = openapi::Foreign::read(document.to_string().as_bytes(), "a.example.com", "v1").unwrap();
    let said: Descriptions = [Arc::new(said)].into();
    for name in [Name::V2, Name::V2Protobuf] {
        let without = read(&library, &kinds, &name).await.unwrap();
        let with = library.get(&kinds, &said, false, name.clone()).await.unwrap().unwrap();
        let mentions = |document: &Document| document.body.windows(4).any(|window| window == b"getA");
        assert!(mentions(&with) && with.etag != without.etag, "{name:?}");
        assert!(read(&library, &kinds, &name).await.unwrap() == without, "{name:?} when they are gone");
    }
}

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

fn read(library: &Library, kinds: &Arc<Kinds>, name: &Name) -> Option<Document> {
    library.get(kinds, name.clone()).unwrap()
}

/// Whatever came and went before: the documents are those of a library that knows nothing.
#[tokio::test]
async fn documents_follow_the_rows() {
    let library = Library::default();
    let mut kinds = Arc::new(Kinds::builtin());
    let agree = |kinds: &Arc<Kinds>, when: &str| {
        for name in names() {
            let (kept, anew) = (read(&library, kinds, &name), read(&Library::default(), kinds, &name));
            assert!(kept == anew, "{name:?} {when}");
            assert!(read(&library, kinds, &name) == anew, "{name:?} {when}, asked again");
        }
    };
    agree(&kinds, "of built-in kinds");
    assert_eq!(read(&library, &kinds, &names()[6]), None);
    for n in 0..3 {
        Arc::make_mut(&mut kinds).insert(custom(n, "size")).unwrap();
    }
    agree(&kinds, "with three more");
    Arc::make_mut(&mut kinds).remove("example.com", "things0").unwrap();
    Arc::make_mut(&mut kinds).remove("example.com", "things1").unwrap();
    Arc::make_mut(&mut kinds).insert(custom(1, "length")).unwrap();
    agree(&kinds, "with one less, and one that is another");
    let text =
        |name: &Name| String::from_utf8_lossy(&read(&library, &kinds, name).unwrap().body).into_owned();
    for name in &names()[2..] {
        let of_apps = matches!(name, Name::V3 { group, .. } if group == "apps");
        let text = text(name);
        let mentions = text.contains("Thing1") || text.contains("apis/example.com/v1?hash");
        assert_eq!(mentions, !of_apps, "{name:?}");
    }
    let v3: Value = serde_json::from_str(&text(&names()[6])).unwrap();
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
    let before = read(&library, &kinds, &Name::V2);
    Arc::make_mut(&mut kinds).insert(custom(3, "size")).unwrap();
    assert!(read(&library, &kinds, &Name::V2) != before);
    let mut shelf = library.0.lock().unwrap();
    let place = kinds.group_resource("example.com", "things0").unwrap();
    let _ = shelf.discovered.get(place, "v1", || "kept".into());
    drop(shelf);
    Arc::make_mut(&mut kinds).insert(custom(4, "size")).unwrap();
    let discovery = read(&library, &kinds, &Name::Discovery { core: false }).unwrap();
    assert!(String::from_utf8_lossy(&discovery.body).contains(r#""resources":[kept,{"#));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_is_let_go() {
    let (library, kinds) = (Library::default(), Arc::new(Kinds::builtin()));
    let made = || library.0.lock().unwrap().made.len();
    read(&library, &kinds, &Name::V3Index);
    tokio::time::sleep(KEPT / 2).await;
    read(&library, &kinds, &Name::V3Index);
    tokio::time::sleep(KEPT / 2 + Duration::from_secs(1)).await;
    assert_eq!(made(), 1, "it was asked for meanwhile");
    tokio::time::sleep(KEPT).await;
    assert_eq!(made(), 0);
    assert!(library.0.lock().unwrap().of.is_none());
    // And begins anew.
    read(&library, &kinds, &Name::V3Index);
    tokio::time::sleep(KEPT * 2).await;
    assert_eq!(made(), 0);
}

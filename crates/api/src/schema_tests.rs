use super::*;
use crate::kind::Kinds;

fn pod() -> TypeRef<'static> {
    Schema::of("", "v1", "Pod").unwrap()
}

#[test]
fn every_row_of_the_registry_has_a_structure() {
    for row in Kinds::builtin().iter() {
        for version in &row.versions {
            assert!(
                Schema::of(&row.group, &version.name, &row.kind).is_some(),
                "{}/{}/{}",
                row.group,
                version.name,
                row.kind
            );
        }
    }
}

#[test]
fn fields_are_found_through_lists_and_maps() {
    let containers = pod().at(&["spec", "containers"]).unwrap().list().unwrap();
    let ListKind::Map(keys) = containers.kind else { panic!("containers merge by key") };
    assert_eq!(keys, ["name"]);
    let container = containers.item.object().unwrap();
    assert_eq!(container.name(), "core.v1.Container");
    let ports = container.field("ports").unwrap();
    assert!(ports.patch.merge);
    assert_eq!(ports.merge_key.as_deref(), Some("containerPort"));
    let ListKind::Map(keys) = ports.ty(container).list().unwrap().kind else { panic!("ports merge by key") };
    assert_eq!(keys, ["containerPort", "protocol"]);
    let requests = pod().at(&["spec", "containers", "*", "resources", "requests", "cpu"]).unwrap();
    assert!(matches!(requests.shape(), Shape::Scalar(Scalar::Quantity)));
    assert!(pod().at(&["spec", "nonsense"]).is_none());
}

#[test]
fn how_lists_and_maps_merge_is_known() {
    let finalizers = pod().at(&["metadata", "finalizers"]).unwrap().list().unwrap();
    assert_eq!(finalizers.kind, ListKind::Set);
    let Shape::Map(selector) = pod().at(&["spec", "nodeSelector"]).unwrap().shape() else { panic!("a map") };
    assert!(selector.atomic);
    let Shape::Map(labels) = pod().at(&["metadata", "labels"]).unwrap().shape() else { panic!("a map") };
    assert!(!labels.atomic);
    let selector = Schema::of("apps", "v1", "Deployment").unwrap().at(&["spec", "selector"]).unwrap();
    assert!(selector.object().unwrap().atomic());
    let strategy = Schema::of("apps", "v1", "Deployment").unwrap().at(&["spec"]).unwrap().object().unwrap();
    assert!(strategy.field("strategy").unwrap().patch.retain_keys);
}

#[test]
fn zero_values_are_told_apart() {
    let zero = |name: &str, field: &str| {
        Schema::builtin().named(name).unwrap().object().unwrap().field(field).unwrap().zero
    };
    assert_eq!(zero("core.v1.ContainerPort", "hostPort"), Zero::Omitted);
    assert_eq!(zero("apps.v1.DeploymentSpec", "replicas"), Zero::Kept);
    assert_eq!(zero("core.v1.ContainerStatus", "ready"), Zero::Written);
    assert_eq!(zero("core.v1.Pod", "status"), Zero::Written);
}

#[test]
fn the_arena_stays_small() {
    let schema = Schema::builtin();
    let bytes = schema.nodes.len() * size_of::<Node>()
        + schema.fields.len() * size_of::<Field>()
        + (schema.roots.len() + schema.names.len()) * 2 * size_of::<(Str, Str, Str)>();
    assert!(bytes < 1_000_000, "{bytes} bytes");
    assert!(schema.names.len() > 800);
}

use tiphys_pki::SealingKey;
use tiphys_store::{Expect, Memory};

use super::*;

fn put(key: &Key, expect: Expect, value: &'static str) -> Vec<Write> {
    let change = Change::Put { value: Bytes::from_static(value.as_bytes()), ttl: None };
    vec![Write { key: key.clone(), expect, change, note: None }]
}

#[tokio::test]
async fn secrets_lie_sealed_and_are_read_plain() {
    let plain: Arc<dyn Store> = Arc::new(Memory::new());
    let transformer = Transformer::new(&[SealingKey { id: "1".into(), secret: [7; 32] }]);
    let sealed = Sealed::new(Arc::clone(&plain), transformer);
    let secret = Key::new("/registry/core/secrets/default/s");
    let map = Key::new("/registry/core/configmaps/default/m");
    let start = sealed.revision().await.unwrap();
    sealed.commit(put(&secret, Expect::Absent, "secret")).await.unwrap();
    sealed.commit(put(&map, Expect::Absent, "map")).await.unwrap();

    let stored = |key| {
        let plain = Arc::clone(&plain);
        async move { plain.get(key).await.unwrap().unwrap().value }
    };
    assert!(!stored(&secret).await.windows(6).any(|w| w == b"secret"));
    assert_eq!(stored(&map).await, "map");

    assert_eq!(sealed.get(&secret).await.unwrap().unwrap().value, "secret");
    let range = Range { prefix: "/registry/core/".into(), ..Range::default() };
    let values: Vec<_> =
        sealed.range(range, None).await.unwrap().records.into_iter().map(|r| r.value).collect();
    assert_eq!(values, ["map", "secret"]);
    let Outcome::Conflict { current, .. } = sealed.commit(put(&secret, Expect::Absent, "x")).await.unwrap()
    else {
        panic!("a conflict was expected")
    };
    assert_eq!(current.unwrap().value, "secret");
    let mut events = sealed.watch("/registry/core/secrets/".into(), start).await.unwrap();
    let mut seen = Vec::new();
    while seen.is_empty() {
        seen = events.next().await.unwrap().unwrap().events;
    }
    assert_eq!(seen[0].value.as_deref(), Some(&b"secret"[..]));
}

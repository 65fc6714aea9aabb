use serde_json::json;

use super::TURN;
use crate::testing::{json as send, server};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(start_paused = true)]
async fn changes_of_an_object_that_many_change_wait_for_their_turn_but_not_for_ever() {
    let server = server().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    send(&server, "POST", MAPS, map.clone()).await;
    let path = format!("{MAPS}/a");
    let change = || send(&server, "PUT", &path, map.clone());
    let contended = &server.registry().contended;
    let turn = contended.take("/registry/core/configmaps/default/a").await;
    assert!(tokio::time::timeout(TURN / 2, change()).await.is_err(), "it is another's turn");
    drop(turn);
    let begun = tokio::time::Instant::now();
    assert_eq!(change().await.0, 200);
    assert!(begun.elapsed() < TURN / 2, "nobody has the turn");

    let _turn = contended.take("/registry/core/configmaps/default/a").await;
    assert_eq!(change().await.0, 200, "whoever has the turn may take too long");
    assert!(begun.elapsed() >= TURN);
}

//! Containers through CRI, against a server in a process of its own. They need root.

mod common;

use common::{Rig, log_of, unable};

#[tokio::test]
async fn a_container_runs_logs_and_ends() {
    if unable() {
        return;
    }
    let rig = Rig::new().await;
    let (status, log) = rig.script(|_| {}, "echo out; echo err >&2; echo -n rest; exit 7").await;
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    assert!(
        log.contains("stdout F out\n") && log.contains("stderr F err\n") && log.contains("stdout F rest\n"),
        "{log}"
    );
    assert!(status.finished_at >= status.started_at && status.started_at >= status.created_at);
    let _ = log_of(&status);
}

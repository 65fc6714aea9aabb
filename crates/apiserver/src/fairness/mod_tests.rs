use futures::FutureExt;
use serde_json::json;

use super::*;
use crate::identity::Component;

fn level(name: &str, shares: u32, queuing: Value) -> Value {
    let response = match queuing {
        Value::Null => json!({"type": "Reject"}),
        queuing => json!({"type": "Queue", "queuing": queuing}),
    };
    json!({"metadata": {"name": name, "uid": format!("uid-{name}")}, "spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": shares, "borrowingLimitPercent": 0, "limitResponse": response}}})
}

fn schema(name: &str, level: &str, precedence: u32, user: &str) -> Value {
    json!({"metadata": {"name": name, "uid": format!("uid-{name}")}, "spec": {
        "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence,
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": user}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]}})
}

/// Two levels with half of the seats each.
fn halves(queuing: Value) -> Arc<Fairness> {
    let fairness = Fairness::new();
    let levels = [level("mine", 1, queuing), level("other", 1, Value::Null)];
    let schemas = [schema("mine", "mine", 1, "*"), schema("later", "other", 2, "*")];
    fairness.configure(levels.iter(), schemas.iter());
    fairness
}

const HALF: usize = SEATS as usize / 2;

async fn enter(fairness: &Arc<Fairness>, name: &str) -> Result<Seat, Status> {
    let user = Identity::authenticated(name, "", Vec::new(), Default::default());
    fairness.enter(&user, "get", &Target::Path("/"), 1).await.1
}

async fn fill(fairness: &Arc<Fairness>) -> Vec<Seat> {
    let mut seats = Vec::new();
    for _ in 0..HALF {
        seats.push(enter(fairness, "elephant").await.unwrap());
    }
    seats
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_seat_waits_for_one_and_is_turned_away_after_a_while() {
    let fairness = halves(json!({"queues": 4, "handSize": 1, "queueLengthLimit": 2}));
    let mut seats = fill(&fairness).await;
    let begun = Instant::now();
    let refused = enter(&fairness, "elephant").await.err().unwrap();
    assert_eq!((refused.code(), refused.details.unwrap().retry_after_seconds), (429, 1));
    assert_eq!(begun.elapsed(), PATIENCE);

    let mut waits = Box::pin(enter(&fairness, "elephant"));
    assert!(waits.as_mut().now_or_never().is_none());
    seats.pop();
    let seat = waits.await.unwrap();
    // It stands in for the one that left.
    let mut next = Box::pin(enter(&fairness, "elephant"));
    assert!(next.as_mut().now_or_never().is_none());
    drop(seat);
    assert!(next.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_while_waiting_leaves_nothing_behind() {
    let fairness = halves(json!({"queues": 4, "handSize": 1, "queueLengthLimit": 2}));
    let mut seats = fill(&fairness).await;
    let mut waits = Box::pin(enter(&fairness, "elephant"));
    assert!(waits.as_mut().now_or_never().is_none());
    drop(waits);
    // One that is given its turn and goes away before it hears of it.
    let mut waits = Box::pin(enter(&fairness, "elephant"));
    assert!(waits.as_mut().now_or_never().is_none());
    seats.pop();
    drop(waits);
    assert_eq!(fairness.waiting.load(SeqCst), 0);
    seats.push(enter(&fairness, "elephant").now_or_never().unwrap().unwrap());
    assert!(enter(&fairness, "mouse").now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_mouse_gets_its_turn_before_the_elephants_that_came_earlier() {
    let fairness = halves(json!({"queues": 64, "handSize": 1, "queueLengthLimit": 100}));
    let mut seats = fill(&fairness).await;
    let mut herd: Vec<_> = (0..50).map(|_| Box::pin(enter(&fairness, "elephant"))).collect();
    assert!(herd.iter_mut().all(|elephant| elephant.as_mut().now_or_never().is_none()));
    // Some mouse has a queue of its own.
    let names: Vec<String> = (0..20).map(|n| format!("mouse{n}")).collect();
    let mut mice: Vec<_> = names.iter().map(|name| Box::pin(enter(&fairness, name))).collect();
    assert!(mice.iter_mut().all(|mouse| mouse.as_mut().now_or_never().is_none()));
    seats.truncate(HALF - 30);
    let mice = mice.iter_mut().filter_map(|mouse| mouse.as_mut().now_or_never()).count();
    assert!(mice >= 15, "{mice} mice of 20 had one of 30 turns");
}

#[tokio::test(start_paused = true)]
async fn full_queues_and_levels_without_queues_turn_away_at_once() {
    let fairness = halves(json!({"queues": 1, "handSize": 1, "queueLengthLimit": 2}));
    let _seats = fill(&fairness).await;
    let mut line: Vec<_> = (0..2).map(|_| Box::pin(enter(&fairness, "elephant"))).collect();
    assert!(line.iter_mut().all(|waits| waits.as_mut().now_or_never().is_none()));
    assert_eq!(enter(&fairness, "mouse").now_or_never().unwrap().err().unwrap().code(), 429);

    let fairness = halves(Value::Null);
    let _seats = fill(&fairness).await;
    assert_eq!(enter(&fairness, "mouse").now_or_never().unwrap().err().unwrap().code(), 429);
    let mut text = Exposition::new(tiphys_metrics::Format::Text);
    fairness.expose(&mut text);
    let text = text.finish();
    let mine = "{priority_level=\"mine\",flow_schema=\"mine\"";
    for line in [
        format!("apiserver_flowcontrol_dispatched_requests_total{mine}}} {HALF}"),
        format!("apiserver_flowcontrol_rejected_requests_total{mine},reason=\"concurrency-limit\"}} 1"),
        format!("apiserver_flowcontrol_current_executing_seats{mine}}} {HALF}"),
        format!("apiserver_flowcontrol_nominal_limit_seats{{priority_level=\"mine\"}} {HALF}"),
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_schema_that_fits_is_told_in_headers() {
    let fairness = halves(Value::Null);
    let user = Component::Dns.identity();
    let (flow, seat) = fairness.enter(&user, "get", &Target::Path("/"), 1).await;
    assert_eq!((flow.schema_uid, flow.level_uid), ("uid-mine".parse().unwrap(), "uid-mine".parse().unwrap()));
    assert!(seat.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_wide_request_takes_several_seats_but_never_most_of_a_level() {
    let fairness = halves(Value::Null);
    let user = Component::Dns.identity();
    let seat = fairness.enter(&user, "list", &Target::Path("/"), 10).await.1.unwrap();
    assert_eq!(seat.seats, 10);
    let wide = fairness.enter(&user, "list", &Target::Path("/"), 1000).await.1.unwrap();
    assert_eq!(wide.seats as usize, HALF / 7);
}

#[tokio::test(start_paused = true)]
async fn administrators_never_wait() {
    let fairness = Fairness::new();
    let user = Component::ApiServer.identity();
    let mut seats = Vec::new();
    for _ in 0..2 * SEATS {
        let entered = fairness.enter(&user, "get", &Target::Path("/"), 10).now_or_never().unwrap().1;
        seats.push(entered.unwrap());
    }
}

use serde_json::{Value, json};

use super::*;
use crate::observed::Exit;
use crate::testing::{instance, pod_from};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn pod(spec: Value) -> Pod {
    pod_from(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec}))
}

fn sandbox(id: &str, attempt: u32, ready: bool) -> Sandbox {
    Sandbox {
        id: SandboxId(id.into()),
        attempt,
        ready,
        created_at: at(i64::from(attempt) + 1),
        ips: vec!["10.0.0.1".into()],
        handler: String::new(),
    }
}

fn exit(code: i32, finished: i64) -> State {
    State::Exited(Exit {
        started_at: Some(at(0)),
        finished_at: at(finished),
        code,
        reason: "Error".into(),
        message: String::new(),
    })
}

fn running() -> State {
    State::Running { started_at: at(1) }
}

/// A view with everything quiet, to be changed by each case.
struct Case {
    pod: Pod,
    observed: Observed,
    stage: Stage,
    prepared: bool,
    busy: BTreeMap<Busy, Timestamp>,
    pod_failure: Option<Failure>,
    attempts: BTreeMap<String, Attempts>,
    health: BTreeMap<ContainerId, Health>,
    group_fits: bool,
    resize_failure: Option<Failure>,
    now: Timestamp,
}

impl Case {
    fn new(spec: Value, containers: Vec<Container>) -> Self {
        let healthy = Health { started: true, ready: true, unhealthy: None };
        Self {
            pod: pod(spec),
            health: containers.iter().map(|c| (c.id.clone(), healthy.clone())).collect(),
            observed: Observed::new(vec![sandbox("s", 0, true)], containers),
            stage: Stage::Running,
            prepared: true,
            busy: BTreeMap::new(),
            pod_failure: None,
            attempts: BTreeMap::new(),
            group_fits: true,
            resize_failure: None,
            now: at(100),
        }
    }

    fn plan(&self) -> Plan {
        plan(&View {
            pod: &self.pod,
            observed: &self.observed,
            stage: self.stage,
            prepared: self.prepared,
            busy: &self.busy,
            pod_failure: self.pod_failure.as_ref(),
            attempts: &self.attempts,
            health: &self.health,
            group_fits: self.group_fits,
            resize_failure: self.resize_failure.as_ref(),
            now: self.now,
        })
    }

    /// The plan's actions in short: what, whom, number.
    fn steps(&self) -> Vec<String> {
        let text = |a: &Action| match a {
            Action::Prepare => "prepare".into(),
            Action::CreateSandbox { attempt } => format!("sandbox {attempt}"),
            Action::StopSandbox { id } => format!("stop {id}"),
            Action::Start { name, attempt, .. } => format!("start {name} {attempt}"),
            Action::Kill { id, grace, again, .. } => {
                format!("kill {id} {}{}", grace.as_secs(), if *again { " again" } else { "" })
            }
            Action::Resize { containers } => {
                let names: Vec<&str> = containers.iter().map(|(_, name)| name.as_str()).collect();
                format!("resize {}", names.join(" "))
            }
            Action::Finish => "finish".into(),
        };
        self.plan().actions.iter().map(text).collect()
    }
}

fn two() -> Value {
    json!({"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]})
}

#[test]
fn a_new_pod_is_prepared_then_gets_a_sandbox_then_its_containers() {
    let mut case = Case::new(two(), vec![]);
    case.prepared = false;
    case.observed = Observed::default();
    assert_eq!(case.steps(), ["prepare"]);
    case.busy.insert(Busy::Prepare, Timestamp::MAX);
    assert!(case.steps().is_empty());
    case.busy.clear();
    case.prepared = true;
    assert_eq!(case.steps(), ["sandbox 0"]);
    case.observed = Observed::new(vec![sandbox("s", 0, true)], vec![]);
    assert_eq!(case.steps(), ["start a 0", "start b 0"]);
    case.busy.insert(Busy::Start("a".into()), Timestamp::MAX);
    assert_eq!(case.steps(), ["start b 0"]);
}

#[test]
fn a_dead_sandbox_is_cleared_away_and_replaced() {
    let mut case =
        Case::new(two(), vec![instance("a", 0, "s", running()), instance("b", 0, "s", exit(0, 5))]);
    case.observed.sandboxes = vec![sandbox("s", 0, false)];
    assert_eq!(case.steps(), ["stop s"]);
    case.observed.containers[0].state = exit(137, 90);
    case.observed.containers[1].state = exit(137, 90);
    assert_eq!(case.steps(), ["sandbox 1"]);
    case.observed.sandboxes.insert(0, sandbox("t", 1, true));
    assert_eq!(case.steps(), ["start a 1", "start b 1"]);
}

#[test]
fn a_finished_pod_gets_no_new_sandbox() {
    let mut case = Case::new(
        json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}),
        vec![instance("a", 0, "s", exit(3, 5))],
    );
    case.observed.sandboxes = vec![sandbox("s", 0, false)];
    assert!(case.steps().is_empty());
    assert!(is_done(&case.pod, &case.observed));
}

#[test]
fn the_restart_policy_decides_on_every_exit() {
    let cases = [
        ("Always", 0, true),
        ("Always", 1, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 0, false),
        ("Never", 1, false),
    ];
    for (policy, code, again) in cases {
        let spec = json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]});
        let case =
            Case::new(spec, vec![instance("a", 0, "s", exit(code, 5)), instance("b", 0, "s", running())]);
        let want: &[&str] = if again { &["start a 1"] } else { &[] };
        assert_eq!(case.steps(), want, "{policy} {code}");
    }
}

#[test]
fn a_container_that_keeps_crashing_waits() {
    let mut case =
        Case::new(json!({"containers": [{"name": "a"}]}), vec![instance("a", 1, "s", exit(1, 95))]);
    let crash = Backoff::default().next(at(80));
    case.attempts.insert("a".into(), Attempts { crash, ..Attempts::default() });
    let waiting = case.plan();
    assert!(waiting.actions.is_empty());
    assert_eq!(waiting.wake_at, Some(at(105)));
    assert_eq!(
        waiting.waiting["a"],
        Waiting {
            reason: "CrashLoopBackOff".into(),
            message: "back-off 10s restarting failed container=a pod=p_ns(u)".into()
        }
    );
    case.now = at(105);
    let plan = case.plan();
    let [Action::Start { attempt: 2, crash, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
    assert_eq!(crash.delay(at(105)).as_secs(), 20);
}

#[test]
fn a_failed_pull_is_shown_as_such_then_as_back_off_then_tried_again() {
    let mut case = Case::new(json!({"containers": [{"name": "a"}]}), vec![]);
    let failure = Failure {
        reason: "ErrImagePull",
        message: "no".into(),
        later: Some(("ImagePullBackOff", "Back-off pulling image \"i\": ErrImagePull: no".into())),
        at: at(100),
        retry_at: at(110),
    };
    case.attempts.insert("a".into(), Attempts { failure: Some(failure), ..Attempts::default() });
    for (now, reason, wake) in [(100, "ErrImagePull", 105), (105, "ImagePullBackOff", 110)] {
        case.now = at(now);
        let plan = case.plan();
        assert_eq!((plan.waiting["a"].reason.as_str(), plan.wake_at), (reason, Some(at(wake))));
        assert!(plan.actions.is_empty());
    }
    case.now = at(110);
    assert_eq!(case.steps(), ["start a 0"]);
}

fn initial() -> Value {
    json!({"initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}, {"name": "j"}],
           "containers": [{"name": "m"}]})
}

#[test]
fn init_containers_and_sidecars_start_in_order() {
    let mut have = vec![];
    let mut case = Case::new(initial(), vec![]);
    for (want, next) in [
        ("start i 0", instance("i", 0, "s", exit(0, 50))),
        ("start s 0", instance("s", 0, "s", running())),
        ("start j 0", instance("j", 0, "s", exit(0, 60))),
        ("start m 0", instance("m", 0, "s", running())),
    ] {
        assert_eq!(case.steps(), [want]);
        have.push(next);
        case = Case::new(initial(), have.clone());
    }
    assert!(case.steps().is_empty());
}

#[test]
fn a_sidecar_holds_up_the_rest_until_it_has_started() {
    let have = vec![instance("i", 0, "s", exit(0, 50)), instance("s", 0, "s", running())];
    let mut case = Case::new(initial(), have);
    case.health.get_mut(&ContainerId("s0".into())).unwrap().started = false;
    assert!(case.steps().is_empty());
}

#[test]
fn a_failed_init_container_is_repeated_unless_never() {
    let have = vec![instance("i", 0, "s", exit(1, 50))];
    assert_eq!(Case::new(initial(), have.clone()).steps(), ["start i 1"]);
    let mut spec = initial();
    spec["restartPolicy"] = json!("Never");
    let case = Case::new(spec, have);
    assert!(case.steps().is_empty());
    assert!(is_done(&case.pod, &case.observed));
}

#[test]
fn once_main_containers_ran_only_sidecars_are_revived() {
    let have = vec![instance("s", 0, "s", exit(0, 50)), instance("m", 0, "s", running())];
    assert_eq!(Case::new(initial(), have).steps(), ["start s 1"]);
}

#[test]
fn unhealthy_and_changed_containers_are_killed() {
    let spec = json!({"terminationGracePeriodSeconds": 7, "containers": [{"name": "a", "image": "new"}]});
    let mut case = Case::new(spec, vec![instance("a", 0, "s", running())]);
    assert!(case.steps().is_empty());
    case.observed.containers[0].hash = "other".into();
    assert_eq!(case.steps(), ["kill a0 7 again"]);
    let plan = case.plan();
    let [Action::Kill { message, .. }] = &plan.actions[..] else { panic!() };
    assert_eq!(message, "Container a definition changed, will be restarted");
    case.observed.containers[0].hash = String::new();
    let health = case.health.get_mut(&ContainerId("a0".into())).unwrap();
    health.unhealthy = Some(Unhealthy { what: "liveness", grace_seconds: Some(3) });
    assert_eq!(case.steps(), ["kill a0 3 again"]);
    case.busy.insert(Busy::Kill(ContainerId("a0".into())), at(103));
    assert!(case.steps().is_empty());
}

#[test]
fn what_was_stopped_to_start_anew_starts_however_it_ended() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "i"}]});
    for (policy, wanted) in [("OnFailure", "kill a0 30 again"), ("Never", "kill a0 30")] {
        let mut case = Case::new(spec(policy), vec![instance("a", 0, "s", running())]);
        let health = case.health.get_mut(&ContainerId("a0".into())).unwrap();
        health.unhealthy = Some(Unhealthy { what: "liveness", grace_seconds: None });
        assert_eq!(case.steps(), [wanted]);
    }
    let mut case = Case::new(spec("OnFailure"), vec![instance("a", 0, "s", exit(0, 50))]);
    assert!(is_done(&case.pod, &case.observed));
    case.observed.containers[0].again = true;
    assert!(!is_done(&case.pod, &case.observed));
    assert_eq!(case.steps(), ["start a 1"]);
}

#[test]
fn termination_stops_main_containers_first_and_sidecars_backwards() {
    let spec = json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "t", "restartPolicy": "Always"}],
                      "containers": [{"name": "m"}]});
    let have = |m: State| {
        vec![instance("s", 0, "s", running()), instance("t", 0, "s", running()), instance("m", 0, "s", m)]
    };
    let mut case = Case::new(spec, have(running()));
    case.stage = Stage::Terminating { deadline: at(130) };
    assert_eq!(case.steps(), ["kill m0 30"]);
    case.observed.containers.iter_mut().find(|c| c.name == "m").unwrap().state = exit(0, 101);
    assert_eq!(case.steps(), ["kill t0 30"]);
    case.observed.containers.iter_mut().find(|c| c.name == "t").unwrap().state = exit(0, 101);
    assert_eq!(case.steps(), ["kill s0 30"]);
    case.now = at(131);
    assert_eq!(case.steps(), ["kill s0 2"]);
    case.observed.containers.iter_mut().find(|c| c.name == "s").unwrap().state = exit(0, 101);
    assert_eq!(case.steps(), ["stop s"]);
    case.observed.sandboxes[0].ready = false;
    assert_eq!(case.steps(), ["finish"]);
    case.busy.insert(Busy::Start("m".into()), Timestamp::MAX);
    assert!(case.steps().is_empty());
}

#[test]
fn a_shorter_grace_period_is_passed_on() {
    let mut case = Case::new(json!({"containers": [{"name": "m"}]}), vec![instance("m", 0, "s", running())]);
    case.stage = Stage::Terminating { deadline: at(130) };
    case.busy.insert(Busy::Kill(ContainerId("m0".into())), at(130));
    assert!(case.steps().is_empty());
    case.stage = Stage::Terminating { deadline: at(100) };
    assert_eq!(case.steps(), ["kill m0 2"]);
}

#[test]
fn restarts_go_on_counting_from_the_record() {
    let mut case = Case::new(json!({"containers": [{"name": "a"}]}), vec![]);
    case.pod.status =
        serde_json::from_value(json!({"containerStatuses": [{"name": "a", "image": "", "imageID": "",
        "ready": true, "restartCount": 4, "containerID": "x://y"}]}))
        .unwrap();
    assert_eq!(case.steps(), ["start a 5"]);
}

#[test]
fn ephemeral_containers_start_once() {
    let mut case = Case::new(
        json!({"containers": [{"name": "a"}], "ephemeralContainers": [{"name": "e"}]}),
        vec![instance("a", 0, "s", running())],
    );
    assert_eq!(case.steps(), ["start e 0"]);
    case.observed.containers.push(instance("e", 0, "s", exit(1, 99)));
    assert!(case.steps().is_empty());
}

#[test]
fn limits_are_led_to_what_was_given() {
    use crate::resize::Actual;
    let resources = json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "200m", "memory": "1Mi"}});
    let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let spec = json!({"containers": [{"name": "a", "image": "i", "resources": resources, "resizePolicy": policy},
        {"name": "b", "image": "i", "resources": resources}, {"name": "c", "image": "i", "resources": resources}]});
    let right = Actual { shares: 102, quota: Some(20_000), memory: Some(1 << 20) };
    let case = |a: Actual, b: Actual| {
        let with = |name: &str, actual| Container { resources: actual, ..instance(name, 0, "s", running()) };
        // Of one whose runtime does not tell, nothing can be wanted.
        Case::new(spec.clone(), vec![with("a", Some(a)), with("b", Some(b)), with("c", None)])
    };
    let quota = Actual { quota: None, ..right };
    let memory = Actual { memory: Some(2 << 20), ..right };
    for (a, b, want) in [
        (right, right, &[][..]),
        (quota, right, &["resize a"]),
        (quota, memory, &["resize a b"]),
        // A restart comes before all other changes.
        (memory, memory, &["kill a0 30 again"]),
    ] {
        let case = case(a, b);
        assert_eq!(case.steps(), want, "{a:?} {b:?}");
        assert_eq!(case.plan().resizing, !want.is_empty());
    }
    let mut group = case(right, right);
    group.group_fits = false;
    assert_eq!(group.steps(), ["resize "]);
    group.resize_failure =
        Some(Failure { reason: "Error", message: "x".into(), later: None, at: at(95), retry_at: at(105) });
    let plan = group.plan();
    assert_eq!((plan.actions.len(), plan.resizing, plan.wake_at), (0, true, Some(at(105))));
    group.resize_failure = None;
    group.busy.insert(Busy::Resize, Timestamp::MAX);
    assert!(group.steps().is_empty());
}

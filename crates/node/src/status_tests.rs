use serde_json::{Value, json};

use super::*;
use crate::features::Features;
use crate::observed::{Sandbox, SandboxId};
use crate::testing::{self, pod_from};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn exit(code: i32) -> State {
    State::Exited(Exit {
        started_at: Some(at(20)),
        finished_at: at(30),
        code,
        reason: if code == 0 { "Completed" } else { "Error" }.into(),
        message: String::new(),
    })
}

fn running() -> State {
    State::Running { started_at: at(20) }
}

fn instance(name: &str, attempt: u32, state: State) -> Container {
    Container {
        image: "image:1".into(),
        image_ref: "image@sha256:1".into(),
        user: Some((1, 2, vec![3])),
        ..testing::instance(name, attempt, "s", state)
    }
}

/// What a case is made from; the rest is a quiet pod with one sandbox.
struct Case {
    pod: Pod,
    containers: Vec<Container>,
    waiting: BTreeMap<String, Waiting>,
    verdict: Option<Verdict>,
    finished: bool,
    /// Without its sandbox.
    bare: bool,
    healthy: bool,
    resize: Resize<'static>,
}

impl Case {
    fn new(spec: Value, containers: Vec<Container>) -> Self {
        let pod = pod_from(
            json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u", "generation": 3}, "spec": spec}),
        );
        Self {
            pod,
            containers,
            waiting: BTreeMap::new(),
            verdict: None,
            finished: false,
            bare: false,
            healthy: true,
            resize: Resize::default(),
        }
    }

    fn compute(&self) -> PodStatus {
        let sandbox = Sandbox {
            id: SandboxId("s".into()),
            attempt: 0,
            ready: !self.finished,
            created_at: at(1),
            ips: vec!["10.0.0.1".into(), "fd::1".into()],
            handler: String::new(),
        };
        let health = Health { started: self.healthy, ready: self.healthy, unhealthy: None };
        compute(&Facts {
            pod: &self.pod,
            last: None,
            observed: &Observed::new(if self.bare { vec![] } else { vec![sandbox] }, self.containers.clone()),
            waiting: &self.waiting,
            health: &self.containers.iter().map(|c| (c.id.clone(), health.clone())).collect(),
            verdict: self.verdict.as_ref(),
            finished: self.finished,
            host_ips: &["192.0.2.1".into()],
            runtime: "tiphys",
            features: &Features::all(true),
            resize: self.resize,
            now: at(100),
        })
    }

    fn phase(&self) -> String {
        self.compute().phase.unwrap_or_default()
    }
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    status.conditions.as_ref().unwrap().iter().find(|c| c.type_ == kind).unwrap()
}

fn one(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "image:1"}]})
}

#[test]
fn the_phase_follows_containers_and_policy() {
    let two = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]});
    let a = |s| instance("a", 0, s);
    let b = |s| instance("b", 0, s);
    let cases: Vec<(Value, Vec<Container>, &str)> = vec![
        (one("Always"), vec![], "Pending"),
        (one("Always"), vec![a(State::Created)], "Pending"),
        (one("Always"), vec![a(running())], "Running"),
        (one("Always"), vec![a(exit(0))], "Running"),
        (one("Always"), vec![a(exit(1))], "Running"),
        (one("OnFailure"), vec![a(exit(1))], "Running"),
        (one("OnFailure"), vec![a(exit(0))], "Succeeded"),
        (one("Never"), vec![a(exit(0))], "Succeeded"),
        (one("Never"), vec![a(exit(1))], "Failed"),
        (two("Never"), vec![a(running())], "Pending"),
        (two("Never"), vec![a(exit(0)), b(running())], "Running"),
        (two("Never"), vec![a(exit(0)), b(exit(2))], "Failed"),
        (two("Always"), vec![a(running()), b(exit(2))], "Running"),
    ];
    for (spec, containers, want) in cases {
        let case = Case::new(spec.clone(), containers.clone());
        assert_eq!(case.phase(), want, "{spec} {containers:?}");
    }
}

#[test]
fn init_containers_hold_the_pod_in_pending_or_fail_it() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let status = Case::new(spec("Always"), vec![instance("i", 0, running())]).compute();
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let initialized = condition(&status, "Initialized");
    assert_eq!(initialized.reason.as_deref(), Some("ContainersNotInitialized"));
    assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [i]"));
    let waiting = status.container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("PodInitializing"));
    assert_eq!(Case::new(spec("Never"), vec![instance("i", 0, exit(1))]).phase(), "Failed");
    assert_eq!(Case::new(spec("Always"), vec![instance("i", 0, exit(1))]).phase(), "Pending");
    let status =
        Case::new(spec("Always"), vec![instance("i", 0, exit(0)), instance("a", 0, running())]).compute();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert!(status.init_container_statuses.unwrap()[0].ready);
    assert_eq!(
        condition(&Case::new(spec("Always"), vec![instance("i", 0, exit(0))]).compute(), "Initialized")
            .status,
        "True"
    );
}

#[test]
fn a_container_that_waits_to_be_restarted_shows_its_last_state() {
    let mut case = Case::new(one("Always"), vec![instance("a", 1, exit(1)), instance("a", 0, exit(2))]);
    let shown = case.compute().container_statuses.unwrap().remove(0);
    assert_eq!(shown.state.unwrap().terminated.unwrap().exit_code, 1);
    assert_eq!(shown.last_state.unwrap().terminated.unwrap().exit_code, 2);
    case.waiting
        .insert("a".into(), Waiting { reason: "CrashLoopBackOff".into(), message: "back-off".into() });
    let status = case.compute();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let shown = status.container_statuses.unwrap().remove(0);
    assert_eq!(shown.state.unwrap().waiting.unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
    let last = shown.last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.container_id.as_deref()), (1, Some("tiphys://a1")));
    assert_eq!((shown.restart_count, shown.ready, shown.started), (1, false, Some(false)));
}

#[test]
fn a_running_container_is_described() {
    let shown = Case::new(one("Always"), vec![instance("a", 0, running())]).compute();
    assert_eq!(shown.pod_ip.as_deref(), Some("10.0.0.1"));
    assert_eq!(shown.pod_ips.as_ref().unwrap().len(), 2);
    assert_eq!(shown.observed_generation, Some(3));
    assert_eq!(condition(&shown, "Ready").observed_generation, Some(3));
    let c = &shown.container_statuses.unwrap()[0];
    assert_eq!((c.image.as_str(), c.image_id.as_str()), ("image:1", "image@sha256:1"));
    assert_eq!(c.container_id.as_deref(), Some("tiphys://a0"));
    assert_eq!(c.user.as_ref().unwrap().linux.as_ref().unwrap().uid, 1);
    assert!(c.ready && c.started == Some(true));
}

#[test]
fn readiness_is_explained() {
    let mut case = Case::new(one("Always"), vec![instance("a", 0, running())]);
    case.healthy = false;
    let status = case.compute();
    let ready = condition(&status, "Ready");
    assert_eq!(ready.reason.as_deref(), Some("ContainersNotReady"));
    assert_eq!(ready.message.as_deref(), Some("containers with unready status: [a]"));
    let mut spec = one("Always");
    spec["readinessGates"] = json!([{"conditionType": "gate"}]);
    let mut case = Case::new(spec, vec![instance("a", 0, running())]);
    let status = case.compute();
    assert_eq!(condition(&status, "ContainersReady").status, "True");
    assert_eq!(
        condition(&status, "Ready").message.as_deref(),
        Some("corresponding condition of pod readiness gate \"gate\" does not exist.")
    );
    let gate = PodCondition { type_: "gate".into(), status: "True".into(), ..PodCondition::default() };
    case.pod.status = Some(PodStatus { conditions: Some(vec![gate.clone()]), ..PodStatus::default() });
    let status = case.compute();
    assert_eq!(condition(&status, "Ready").status, "True");
    assert_eq!(*condition(&status, "gate"), gate, "the conditions of others stay as they are");
    let done = Case::new(one("Never"), vec![instance("a", 0, exit(0))]).compute();
    assert_eq!(condition(&done, "Ready").reason.as_deref(), Some("PodCompleted"));
    let failed = Case::new(one("Never"), vec![instance("a", 0, exit(1))]).compute();
    assert_eq!(condition(&failed, "Ready").reason.as_deref(), Some("PodFailed"));
}

#[test]
fn a_pod_that_the_node_ends_fails_when_its_containers_have_stopped() {
    let mut case = Case::new(one("Always"), vec![instance("a", 0, running())]);
    case.verdict = Some(Verdict { reason: "DeadlineExceeded".into(), message: "too long".into() });
    let status = case.compute();
    assert_eq!((status.phase.as_deref(), status.reason), (Some("Running"), None));
    case.containers[0].state = exit(0);
    case.finished = true;
    let status = case.compute();
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
}

#[test]
fn a_pod_goes_on_while_what_was_stopped_is_to_start_anew() {
    let mut case = Case::new(one("OnFailure"), vec![instance("a", 0, exit(0))]);
    assert_eq!(case.phase(), "Succeeded");
    case.containers[0].again = true;
    assert_eq!(case.phase(), "Running");
    case.finished = true;
    assert_eq!(case.phase(), "Succeeded");
}

#[test]
fn of_a_pod_that_was_refused_nothing_is_told_but_why() {
    let mut case = Case::new(one("Always"), vec![]);
    case.bare = true;
    let condition = |kind: &str| PodCondition { type_: kind.into(), ..PodCondition::default() };
    let conditions = Some(vec![condition("PodScheduled"), condition("gate")]);
    case.pod.status = Some(PodStatus { conditions, ..PodStatus::default() });
    let starting = case.compute();
    assert_eq!(starting.phase.as_deref(), Some("Pending"));
    assert!(starting.container_statuses.is_some());
    case.verdict = Some(Verdict { reason: "OutOfcpu".into(), message: "Pod was rejected: no".into() });
    let wanted = PodStatus {
        conditions: Some(vec![condition("gate")]),
        message: Some("Pod was rejected: no".into()),
        observed_generation: Some(3),
        phase: Some("Failed".into()),
        qos_class: Some("BestEffort".into()),
        reason: Some("OutOfcpu".into()),
        start_time: Some(Time(at(100))),
        ..PodStatus::default()
    };
    assert_eq!(case.compute(), wanted);
    // Nor is more known after the node was started again.
    case.verdict = None;
    case.pod.status = Some(wanted.clone());
    case.finished = true;
    assert_eq!(case.compute(), wanted);
}

#[test]
fn a_deleted_pod_ends_by_its_exit_codes_and_keeps_its_address() {
    for (code, want) in [(0, "Succeeded"), (143, "Failed")] {
        let mut case = Case::new(one("Always"), vec![instance("a", 0, exit(code))]);
        case.finished = true;
        let status = case.compute();
        assert_eq!(status.phase.as_deref(), Some(want));
        assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.1"));
    }
}

#[test]
fn a_terminal_phase_is_never_left() {
    let mut case = Case::new(one("Always"), vec![instance("a", 0, running())]);
    case.pod.status = Some(PodStatus { phase: Some("Succeeded".into()), ..PodStatus::default() });
    assert_eq!(case.phase(), "Succeeded");
}

#[test]
fn what_the_runtime_forgot_the_record_remembers() {
    let record = |state: Value| {
        let mut case = Case::new(one("Always"), vec![]);
        case.pod.status = serde_json::from_value(
            json!({"phase": "Running", "containerStatuses": [{"name": "a", "image": "", "imageID": "x",
            "ready": false, "restartCount": 2, "containerID": "tiphys://old", "state": state}]}),
        )
        .unwrap();
        case
    };
    let ended = json!({"terminated": {"exitCode": 5, "reason": "Error"}});
    let shown = record(ended).compute().container_statuses.unwrap().remove(0);
    assert_eq!((shown.restart_count, shown.state.unwrap().terminated.unwrap().exit_code), (2, 5));
    let mut case = record(json!({"running": {}}));
    let shown = case.compute().container_statuses.unwrap().remove(0);
    assert!(shown.state.unwrap().waiting.is_some());
    assert_eq!(
        shown.last_state.unwrap().terminated.unwrap().reason.as_deref(),
        Some("ContainerStatusUnknown")
    );
    case.finished = true;
    let shown = case.compute().container_statuses.unwrap().remove(0);
    assert_eq!(shown.state.unwrap().terminated.unwrap().exit_code, 137);
}

#[test]
fn a_transition_time_changes_with_the_status_alone() {
    let mut case = Case::new(one("Always"), vec![instance("a", 0, running())]);
    let mut before = case.compute();
    for c in before.conditions.as_mut().unwrap() {
        c.last_transition_time = Some(Time(at(50)));
    }
    case.pod.status = Some(before);
    let time = |c: &PodCondition| c.last_transition_time.as_ref().unwrap().0;
    assert_eq!(time(condition(&case.compute(), "Ready")), at(50));
    case.healthy = false;
    let status = case.compute();
    assert_eq!(time(condition(&status, "Ready")), at(100));
    assert_eq!(time(condition(&status, "Initialized")), at(50));
}

#[test]
fn a_change_of_resources_is_told_while_it_lasts() {
    let resources = serde_json::json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}});
    let spec = json!({"containers": [{"name": "a", "image": "image:1", "resources": resources}]});
    let has = |quota| crate::resize::Actual { shares: 102, quota: Some(quota), memory: None };
    let with = |quota| Container { resources: Some(has(quota)), ..instance("a", 0, running()) };
    let shown = |status: &PodStatus| {
        let list = status.conditions.as_ref().unwrap();
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let ours = list.iter().filter(|c| c.type_.starts_with("PodResize"));
        ours.map(|c| format!("{} {} {} {}", c.type_, c.status, text(&c.reason), text(&c.message)))
            .collect::<Vec<_>>()
    };
    let mut case = Case::new(spec.clone(), vec![with(20_000)]);
    let status = case.compute();
    let c = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!((json!(c.resources), json!(c.allocated_resources)), (resources, json!({"cpu": "100m"})));
    assert!(shown(&status).is_empty());
    // What an earlier status said of a change that is through is not taken for somebody else's.
    case.pod.status = Some(PodStatus {
        conditions: Some(vec![
            PodCondition {
                type_: "PodResizeInProgress".into(),
                status: "True".into(),
                ..PodCondition::default()
            },
            PodCondition { type_: "theirs".into(), status: "True".into(), ..PodCondition::default() },
        ]),
        ..PodStatus::default()
    });
    let status = case.compute();
    assert!(shown(&status).is_empty() && condition(&status, "theirs").status == "True");
    let pending = Box::leak(Box::new(Pending { reason: "Deferred", message: "later".into() }));
    case = Case::new(spec, vec![with(10_000)]);
    case.resize = Resize { pending: Some(pending), under_way: true, error: Some("no") };
    let status = case.compute();
    assert_eq!(shown(&status), ["PodResizePending True Deferred later", "PodResizeInProgress True Error no"]);
    let c = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(json!(c.resources.as_ref().unwrap().limits), json!({"cpu": "100m"}));
    case.containers[0].resources = None;
    assert_eq!(case.compute().container_statuses.unwrap()[0].resources, None);
}

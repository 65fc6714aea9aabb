use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::*;

/// An API of one lease, and of events.
#[derive(Default)]
struct World {
    lease: Option<Value>,
    version: u64,
    writes: usize,
    events: Vec<String>,
    /// Whose requests are not answered.
    cut_off: Option<&'static str>,
}

type Shared = Arc<Mutex<World>>;

fn answer(code: u16, body: &Value) -> Response<Body> {
    Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).expect("a response")
}

fn failure(code: u16) -> Response<Body> {
    let reason = if code == 404 { "NotFound" } else { "Conflict" };
    answer(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason}),
    )
}

impl World {
    fn answer(&mut self, method: &Method, path: &str, body: Value) -> Response<Body> {
        if path.contains("/events") {
            self.events.push(body["message"].as_str().unwrap_or_default().to_owned());
            return answer(201, &body);
        }
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        match (method, &self.lease) {
            (&Method::GET, None) => return failure(404),
            (&Method::GET, Some(lease)) => return answer(200, lease),
            (&Method::POST, Some(_)) => return failure(409),
            (&Method::PUT, None) => return failure(404),
            (&Method::PUT, Some(lease)) if version(lease) != version(&body) => return failure(409),
            _ => {}
        }
        self.version += 1;
        self.writes += 1;
        let mut lease = body;
        lease["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.lease = Some(lease.clone());
        answer(200, &lease)
    }

    fn holder(&self) -> String {
        let lease = self.lease.as_ref().unwrap_or(&Value::Null);
        lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }
}

fn client(world: &Shared, who: &'static str) -> Client {
    let world = world.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let world = world.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.expect("a body").to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let cut_off = world.lock().cut_off == Some(who);
            if cut_off {
                std::future::pending::<()>().await;
            }
            let answer = world.lock().answer(&head.method, head.uri.path(), body);
            Ok::<_, Infallible>(answer)
        }
    });
    Client::new(service, "default")
}

fn election(world: &Shared, who: &'static str, tenure: Tenure) -> Election {
    let (namespace, name) = (NAMESPACE.to_owned(), "loops".to_owned());
    Election { client: client(world, who), namespace, name, identity: who.to_owned(), tenure }
}

const RENEWED: Tenure = Tenure::Renewed(Timing {
    lease_duration: Duration::from_secs(15),
    renew_deadline: Duration::from_secs(10),
    retry_period: Duration::from_secs(2),
});

/// How many do the work, and what was done by whom when.
#[derive(Default)]
struct Loops {
    running: AtomicUsize,
    begun: Mutex<Vec<(&'static str, Instant)>>,
    ended: Mutex<Vec<(&'static str, Instant)>>,
}

struct Turn(Arc<Loops>, &'static str);

impl Turn {
    fn begin(loops: &Arc<Loops>, who: &'static str) -> Self {
        assert_eq!(loops.running.fetch_add(1, SeqCst), 0, "two lead at once");
        loops.begun.lock().push((who, Instant::now()));
        Self(loops.clone(), who)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
        self.0.ended.lock().push((self.1, Instant::now()));
    }
}

/// Has a candidate run; its end of the channel stops it, and tells how that went.
fn candidate(
    world: &Shared,
    loops: &Arc<Loops>,
    who: &'static str,
    tenure: Tenure,
) -> (oneshot::Sender<()>, tokio::task::JoinHandle<Option<()>>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let (election, loops) = (election(world, who, tenure), loops.clone());
    let running = tokio::spawn(async move {
        let stopped = async {
            if stopped.await.is_err() {
                // As good as killed: nobody says goodbye.
                std::future::pending().await
            }
        };
        let work = move |_| {
            let loops = loops.clone();
            async move {
                let _turn = Turn::begin(&loops, who);
                std::future::pending().await
            }
        };
        election.run(stopped, work).await
    });
    (stop, running)
}

async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

fn begun(loops: &Loops) -> Vec<&'static str> {
    loops.begun.lock().iter().map(|(who, _)| *who).collect()
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_killed_is_followed_when_its_lease_is_over() {
    let (world, loops) = (Shared::default(), Arc::default());
    let (_keep, first) = candidate(&world, &loops, "a", RENEWED);
    seconds(1).await;
    let (_keep_too, _second) = candidate(&world, &loops, "b", RENEWED);
    seconds(600).await;
    assert_eq!(begun(&loops), ["a"], "as long as it renews");
    first.abort();
    let killed = Instant::now();
    seconds(60).await;
    assert_eq!(begun(&loops), ["a", "b"]);
    let taken = loops.begun.lock()[1].1 - killed;
    assert!(taken >= Duration::from_secs(13) && taken <= Duration::from_secs(22), "{taken:?}");
    let world = world.lock();
    assert_eq!(world.lease.as_ref().expect("a lease")["spec"]["leaseTransitions"], 1);
    assert_eq!(world.events, ["a became leader", "b became leader"]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_ends_before_another_begins_and_leads_again_later() {
    let (world, loops) = (Shared::default(), Arc::default());
    let (_keep, _first) = candidate(&world, &loops, "a", RENEWED);
    seconds(1).await;
    let (_keep_too, second) = candidate(&world, &loops, "b", RENEWED);
    seconds(20).await;
    let cut = Instant::now();
    world.lock().cut_off = Some("a");
    // That two do not run at once, `Turn` sees to.
    seconds(60).await;
    assert_eq!(begun(&loops), ["a", "b"]);
    let ended = loops.ended.lock()[0].1 - cut;
    assert!(ended <= Duration::from_secs(10), "{ended:?} after its last renewal at the latest");
    world.lock().cut_off = None;
    second.abort();
    seconds(60).await;
    assert_eq!(begun(&loops), ["a", "b", "a"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_stops_lets_go_once_its_writes_are_through() {
    let world = Shared::default();
    let (stop, stopped) = oneshot::channel::<()>();
    let (started, through) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let run = {
        let (started, through) = (started.clone(), through.clone());
        let work = move |fence: Fence| {
            let (started, through) = (started.clone(), through.clone());
            let slow = tower::service_fn(move |_: Request<Body>| {
                let (started, through) = (started.clone(), through.clone());
                async move {
                    started.fetch_add(1, SeqCst);
                    seconds(1).await;
                    through.fetch_add(1, SeqCst);
                    Ok::<_, Infallible>(Response::new(Body::empty()))
                }
            });
            async move {
                let request = || Request::post("/").body(Body::empty()).expect("a request");
                loop {
                    // Refused in the end.
                    let _ = tower::ServiceExt::oneshot(fence.guard(slow.clone()), request()).await;
                    tokio::task::yield_now().await;
                }
            }
        };
        election(&world, "a", RENEWED).run(async { stopped.await.expect("a word") }, work)
    };
    let running = tokio::spawn(run);
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(world.lock().holder(), "a");
    stop.send(()).expect("it runs");
    assert_eq!(running.await.expect("no panic"), None::<()>);
    assert_eq!((started.load(SeqCst), through.load(SeqCst)), (3, 3), "the last one was waited for");
    assert_eq!(world.lock().holder(), "", "others need not wait");
    let loops = Arc::default();
    let (_keep, _next) = candidate(&world, &loops, "b", RENEWED);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(begun(&loops), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_touched_lease_is_renewed_and_a_deleted_one_made_again() {
    let (world, loops) = (Shared::default(), Arc::default());
    let (_keep, _running) = candidate(&world, &loops, "a", RENEWED);
    seconds(5).await;
    {
        let mut world = world.lock();
        world.version += 1;
        let version = world.version.to_string();
        let lease = world.lease.as_mut().expect("a lease");
        lease["metadata"]["resourceVersion"] = version.into();
        lease["metadata"]["labels"] = json!({"touched": "yes"});
    }
    seconds(30).await;
    world.lock().lease = None;
    seconds(30).await;
    assert_eq!(begun(&loops), ["a"], "it has led all the time");
    assert_eq!(world.lock().holder(), "a");
}

#[tokio::test(start_paused = true)]
async fn who_stands_writes_nothing_while_it_leads_nor_when_it_comes_back() {
    let (world, loops) = (Shared::default(), Arc::default());
    for _ in 0..2 {
        let (stop, running) = candidate(&world, &loops, "up", Tenure::Standing);
        seconds(3600).await;
        let (_keep, other) = candidate(&world, &loops, "b", RENEWED);
        seconds(3600).await;
        other.abort();
        stop.send(()).expect("it runs");
        running.await.expect("no panic");
    }
    assert_eq!(begun(&loops), ["up", "up"]);
    assert_eq!(world.lock().writes, 1);
    assert!(world.lock().events.is_empty());
    // One that wants it no more leaves it to others, and touches nobody else's.
    election(&world, "up", Tenure::Standing).leave().await.expect("an answer");
    let (_keep, _next) = candidate(&world, &loops, "b", RENEWED);
    seconds(5).await;
    election(&world, "up", Tenure::Standing).leave().await.expect("an answer");
    assert_eq!(world.lock().holder(), "b");
}

#[tokio::test(start_paused = true)]
async fn work_that_ends_by_itself_is_the_answer() {
    let world = Shared::default();
    let run = election(&world, "a", RENEWED).run(std::future::pending(), |_| async { "done" });
    assert_eq!(run.await, Some("done"));
    assert_eq!(world.lock().holder(), "");
}

use clap::Parser as _;
use kube::client::Body;

use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    flags: ElectionFlags,
}

fn parse(arguments: &[&str]) -> Result<ElectionFlags, String> {
    let line = Line::try_parse_from([&["x"], arguments].concat());
    line.map(|line| line.flags).map_err(|error| error.to_string())
}

/// A client that nobody answers.
fn client() -> Client {
    let silent = tower_service(|_| std::future::pending());
    Client::new(silent, "default")
}

fn tower_service<F>(
    answer: fn(http::Request<Body>) -> F,
) -> impl tower::Service<
    http::Request<Body>,
    Response = http::Response<Body>,
    Error = std::convert::Infallible,
    Future = F,
> + Clone
where
    F: Future<Output = Result<http::Response<Body>, std::convert::Infallible>>,
{
    tower::service_fn(answer)
}

#[tokio::test]
async fn flags_go_over_the_file_and_the_file_over_what_is_usual() {
    let file: ElectionFile = serde_saphyr::from_str(
        "leaderElect: true\nleaseDuration: 1m30s\nrenewDeadline: 60s\nresourceName: theirs\nresourceLock: leases\n",
    )
    .expect("a file");
    let flags = parse(&["--leader-elect-renew-deadline=20s", "--leader-elect-resource-name", "ours"]);
    let flags = flags.expect("flags").or(file).expect("both");
    let election = flags.election("kube-scheduler", client()).expect("good times").expect("one is held");
    let timing = Timing {
        lease_duration: Duration::from_secs(90),
        renew_deadline: Duration::from_secs(20),
        retry_period: Duration::from_secs(2),
    };
    assert_eq!(election.tenure, Tenure::Renewed(timing));
    assert_eq!((&*election.namespace, &*election.name), ("kube-system", "ours"));
    let again = flags.election("kube-scheduler", client()).expect("good times").expect("one is held");
    assert_ne!(election.identity, again.identity, "two processes on a host are two");
}

#[tokio::test]
async fn there_may_be_none_and_bad_times_are_refused() {
    let usual =
        parse(&[]).expect("no flags").election("x", client()).expect("good times").expect("one is held");
    assert_eq!((&*usual.name, usual.tenure), ("x", Tenure::Renewed(Timing::default())));
    for (arguments, held) in [
        (&["--leader-elect=false"][..], false),
        (&["--leader-elect"], true),
        (&["--leader-elect=true"], true),
    ] {
        let flags = parse(arguments).expect("flags");
        assert_eq!(flags.election("x", client()).expect("good times").is_some(), held, "{arguments:?}");
    }
    let short = parse(&["--leader-elect-lease-duration=10s"]).expect("a duration");
    let Err(refused) = short.election("x", client()) else { panic!("the leader would outlive its lease") };
    assert!(
        format!("{refused:#}").contains("leaseDuration must be greater than renewDeadline"),
        "{refused:#}"
    );
    for wrong in [
        "--leader-elect-lease-duration=-5s",
        "--leader-elect-lease-duration=soon",
        "--leader-elect-resource-lock=endpoints",
    ] {
        parse(&[wrong]).expect_err(wrong);
    }
    let file: ElectionFile = serde_saphyr::from_str("resourceLock: endpoints").expect("a file");
    parse(&[]).expect("no flags").or(file).expect_err("it is gone since 1.24");
}

//! Requests a second over TLS, from one or many clients that each wait for their answer.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use http::Request;
use kube::Client;

use crate::{
    objects,
    table::{Goal, Measure, measure as named},
};

const LASTS: Duration = Duration::from_secs(4);
const WARM_UP: Duration = Duration::from_millis(500);
const LISTED: usize = 500;

pub(crate) async fn measure(client: &Client, tell: &mut impl FnMut(Measure, f64)) -> Result<()> {
    for (name, plural, clients) in [
        ("creates of ConfigMaps, 1 client", "configmaps", 1),
        ("creates of ConfigMaps, 16 clients", "configmaps", 16),
        ("creates of Pods, 1 client", "pods", 1),
        ("creates of Pods, 16 clients", "pods", 16),
    ] {
        let namespace = format!("bench-{plural}-{clients}");
        objects::namespace(client, &namespace).await?;
        let rate = rate(client, clients, |n| {
            let object = format!("object-{n}");
            let object =
                if plural == "pods" { objects::pod(&object, false) } else { objects::config_map(&object) };
            objects::create(&namespace, plural, &object)
        });
        tell(named(name, "/s", Goal::None), rate.await.context(name)?);
    }
    let namespace = "bench-reads";
    objects::namespace(client, namespace).await?;
    for n in 0..LISTED {
        let object = objects::config_map(&format!("object-{n}"));
        client.request_text(objects::create(namespace, "configmaps", &object)).await?;
    }
    let list = format!("/api/v1/namespaces/{namespace}/configmaps?labelSelector=app%3Dbench");
    let read = |path: String| objects::request("GET", &path, Vec::new());
    for (name, clients) in [("gets of one ConfigMap, 1 client", 1), ("gets of one ConfigMap, 16 clients", 16)]
    {
        let one = |n| read(format!("/api/v1/namespaces/{namespace}/configmaps/object-{}", n * 7919 % LISTED));
        tell(named(name, "/s", Goal::None), rate(client, clients, one).await.context(name)?);
    }
    for (name, clients) in
        [("lists of 500 ConfigMaps, 1 client", 1), ("lists of 500 ConfigMaps, 16 clients", 16)]
    {
        let rate = rate(client, clients, |_| read(list.clone())).await.context(name)?;
        tell(named(name, "/s", Goal::None), rate);
    }
    Ok(())
}

/// How many answers a second come when so many clients ask, each for one thing at a time.
async fn rate(client: &Client, clients: usize, request: impl Fn(usize) -> Request<Vec<u8>>) -> Result<f64> {
    let number = AtomicUsize::new(0);
    let ask = async |until: Instant| {
        let mut answers = 0;
        while Instant::now() < until {
            let request = request(number.fetch_add(1, Ordering::Relaxed));
            client.request_text(request).await?;
            answers += 1;
        }
        Ok::<usize, kube::Error>(answers)
    };
    let warm = Instant::now() + WARM_UP;
    try_join_all((0..clients).map(|_| ask(warm))).await?;
    let begun = Instant::now();
    let answers = try_join_all((0..clients).map(|_| ask(begun + LASTS))).await?;
    Ok(answers.into_iter().sum::<usize>() as f64 / begun.elapsed().as_secs_f64())
}

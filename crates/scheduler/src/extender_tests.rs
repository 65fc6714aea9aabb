use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use super::*;

/// A program that answers each path with this, and tells what it was sent.
async fn program(answers: Value) -> (String, tokio::sync::mpsc::UnboundedReceiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/prefix", listener.local_addr().expect("an address"));
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answers, tell) = (answers.clone(), tell.clone());
            tokio::spawn(async move {
                let (read, mut write) = stream.split();
                let mut read = BufReader::new(read);
                loop {
                    let (mut head, mut length) = (String::new(), 0);
                    loop {
                        let mut line = String::new();
                        if read.read_line(&mut line).await.unwrap_or(0) == 0 {
                            return;
                        }
                        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                            length = value.trim().parse().expect("a length");
                        }
                        if line == "\r\n" {
                            break;
                        }
                        head.push_str(&line);
                    }
                    let mut body = vec![0; length];
                    read.read_exact(&mut body).await.expect("a body");
                    let path = head.split(' ').nth(1).expect("a path").to_owned();
                    let body = serde_json::from_slice(&body).expect("JSON");
                    let answer = answers[&path].to_string();
                    tell.send((path, body)).expect("the test listens");
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
                    write.write_all((head + &answer).as_bytes()).await.expect("written");
                }
            });
        }
    });
    (url, told)
}

fn extender(url: &str, change: impl Fn(&mut Value)) -> Result<Extender, String> {
    let mut args = json!({"urlPrefix": url, "filterVerb": "filter", "prioritizeVerb": "prioritize", "weight": 2,
        "bindVerb": "bind", "nodeCacheCapable": true, "httpTimeout": "30s"});
    change(&mut args);
    Extender::new(serde_json::from_value(args).expect("arguments"))
}

fn pod(requests: Value) -> PodInfo {
    let pod = json!({"metadata": {"namespace": "ns", "name": "p", "uid": "u"},
        "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
    PodInfo::new(serde_json::from_value(pod).expect("a pod"))
}

#[tokio::test]
async fn an_extender_filters_scores_and_binds() {
    let (url, mut told) = program(json!({
        "/prefix/filter": {"nodenames": ["a", "b", "not-asked"], "failedNodes": {"c": "too loud"}},
        "/prefix/prioritize": [{"host": "a", "score": 5}, {"host": "b", "score": 99}],
        "/prefix/bind": {"error": "no"},
    }))
    .await;
    let extender = extender(&url, |_| {}).expect("an extender");
    let names: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).into();
    let filtered = extender.filter(&json!({"x": 1}), &BTreeMap::new(), &names).await.expect("an answer");
    assert_eq!(filtered.fit, ["a", "b"]);
    let reasons: Vec<String> =
        filtered.failed.values().map(|r| r.reasons.iter().collect::<Vec<_>>().concat()).collect();
    assert_eq!(reasons, ["too loud".to_owned(), format!("filtered out by {url}/filter")]);
    let (path, body) = told.recv().await.expect("a request");
    assert_eq!((path.as_str(), &body), ("/prefix/filter", &json!({"pod": {"x": 1}, "nodenames": names})));
    let scores = extender.prioritize(&Value::Null, &BTreeMap::new(), &names).await;
    // Of ten; a hundred is the best of ours, times the weight.
    assert_eq!(scores, BTreeMap::from([("a".to_owned(), 100), ("b".to_owned(), 200)]));
    let error = extender.bind(&pod(json!({})), "a").await.expect_err("it says no");
    assert_eq!(error.to_string(), format!("{url}/bind answered: no"));
    told.recv().await.expect("a request");
    let (_, body) = told.recv().await.expect("a request");
    assert_eq!(body, json!({"podName": "p", "podNamespace": "ns", "podUID": "u", "node": "a"}));
}

#[tokio::test]
async fn an_extender_minds_pods_of_its_resources() {
    let managed = |args: &mut Value| {
        args["managedResources"] = json!([{"name": "example.com/x", "ignoredByScheduler": true}]);
    };
    let managing = extender("http://127.0.0.1:1", managed).expect("an extender");
    assert!(managing.minds(&pod(json!({"example.com/x": "1"}))));
    assert!(!managing.minds(&pod(json!({"cpu": "1"}))));
    assert_eq!(managing.ignored().collect::<Vec<_>>(), ["example.com/x"]);
    for (field, value, said) in [
        ("weight", json!(0), "weight"),
        ("httpTimeout", json!("soon"), "httpTimeout"),
        ("preemptVerb", json!("preempt"), "preemptVerb"),
    ] {
        let refused = extender("http://127.0.0.1:1", |args| args[field] = value.clone()).err();
        assert!(refused.as_ref().is_some_and(|why| why.starts_with(said)), "{field}: {refused:?}");
    }
}

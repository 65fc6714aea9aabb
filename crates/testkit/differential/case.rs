//! What is asked: files of requests, one after the other.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http::{Request, header};
use kube::client::Body;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Map, answer, servers::Server};

/// How long an answer is waited for, and how long it is between two questions.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);

/// A file of `cases`: requests, and objects for which all of them are sent if there are any.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sheet {
    steps: Vec<Step>,
    #[serde(default)]
    each: Vec<Map>,
}

/// One request.
///
/// In all texts `$name` stands for a variable; a text that is nothing else is replaced by its value, of whatever type.
/// `$ns` is a namespace of the case's own.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// Such as `GET /api/v1/namespaces/$ns/pods`.
    pub(crate) ask: String,
    #[serde(default)]
    body: Option<Value>,
    /// The body as it is, in place of `body`.
    #[serde(default)]
    text: Option<String>,
    /// Its media type, JSON unless it is said.
    #[serde(default, rename = "type")]
    media_type: Option<String>,
    #[serde(default)]
    accept: Option<String>,
    /// The user that the administrator speaks for.
    #[serde(default, rename = "as")]
    user: Option<String>,
    #[serde(default)]
    headers: Map,
    /// The answer that is waited for where a server gets there only after a while.
    #[serde(default)]
    until: Option<u16>,
    /// Variables, and where the answer has their values.
    #[serde(default)]
    keep: std::collections::BTreeMap<String, String>,
}

/// Requests that have a namespace in common.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
    /// Of its own.
    namespace: String,
    variables: Map,
}

impl Case {
    /// The cases of a file.
    ///
    /// # Errors
    /// It is not of the form that [`Step`] tells.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Vec<Self>> {
        // A name may be `y`.
        let options = serde_saphyr::options! { strict_booleans: true };
        let sheet: Sheet = serde_saphyr::from_str_with_options(text, options)
            .with_context(|| format!("reading the cases {name}"))?;
        if sheet.each.is_empty() {
            let (name, namespace) = (name.to_owned(), format!("d-{name}"));
            return Ok(vec![Self { name, steps: sheet.steps, namespace, variables: Map::new() }]);
        }
        let one = |(number, variables): (usize, Map)| {
            let label = variables.get("label").or(variables.get("path")).and_then(Value::as_str);
            let label = label.map_or_else(
                || number.to_string(),
                |l| l.trim_start_matches("/apis/").trim_start_matches("/api/").replace("/namespaces/$ns", ""),
            );
            let (name, namespace) = (format!("{name}:{label}"), format!("d-{name}-{number}"));
            Self { name, steps: sheet.steps.clone(), namespace, variables }
        };
        Ok(sheet.each.into_iter().enumerate().map(one).collect())
    }

    /// Makes the case's namespace, and the account that Pods have.
    pub(crate) async fn prepare(&self, server: &Server) -> Result<()> {
        let namespace = &self.namespace;
        let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        for (path, name) in [("/api/v1/namespaces", namespace.as_str()), (&account, "default")] {
            let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
            // Upstream's would wait for a controller to make a token.
            let body = json!({"metadata": {"name": name}, "automountServiceAccountToken": false}).to_string();
            let answer = server.client.send(request.body(Body::from(body.into_bytes()))?).await?;
            anyhow::ensure!(answer.status().is_success(), "{path}: {}", answer.status());
        }
        Ok(())
    }
}

/// What `$name` stands for, on one of the servers.
pub(crate) struct Variables(Map);

impl Variables {
    pub(crate) fn of(case: &Case) -> Self {
        let mut variables = Self(Map::from([("ns".to_owned(), case.namespace.clone().into())]));
        // One may be told by others.
        for (name, value) in &case.variables {
            variables.0.insert(name.clone(), value.clone());
        }
        let told = case.variables.iter().map(|(name, value)| (name.clone(), variables.tell(value)));
        let told: Vec<_> = told.collect();
        variables.0.extend(told);
        variables
    }

    fn text(&self, text: &str) -> String {
        let mut names: Vec<_> = self.0.keys().collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        let mut text = text.to_owned();
        for name in names {
            let value = &self.0[name];
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text = text.replace(&format!("${name}"), &value);
        }
        text
    }

    fn tell(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => match text.strip_prefix('$').and_then(|name| self.0.get(name)) {
                Some(Value::String(_)) | None => self.text(text).into(),
                Some(value) => value.clone(),
            },
            Value::Array(values) => values.iter().map(|value| self.tell(value)).collect(),
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| (self.text(key), self.tell(value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            other => other.clone(),
        }
    }
}

impl Step {
    /// Sends the request, and returns what is compared of the answer.
    ///
    /// # Errors
    /// There was no answer.
    pub(crate) async fn ask(&self, server: &Server, variables: &mut Variables) -> Result<Value> {
        let ask = variables.text(&self.ask);
        let (method, path) = ask.split_once(' ').with_context(|| format!("no method: {ask}"))?;
        let body = match (&self.body, &self.text) {
            (Some(body), _) => variables.tell(body).to_string(),
            (None, Some(text)) => variables.text(text),
            (None, None) => String::new(),
        };
        let mut request =
            Request::builder().method(method).uri(path).header(header::USER_AGENT, "differential/1");
        if let Some(media) = &self.media_type {
            request = request.header(header::CONTENT_TYPE, media);
        } else if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request = request.header(header::ACCEPT, self.accept.as_deref().unwrap_or("application/json"));
        if let Some(user) = &self.user {
            request = request.header("impersonate-user", variables.text(user));
        }
        for (name, value) in &self.headers {
            request = request.header(name, value.as_str().unwrap_or_default());
        }
        let request = request.body(bytes::Bytes::from(body)).with_context(|| ask.clone())?;
        let begun = Instant::now();
        let answer = loop {
            let once = request.clone().map(Body::from);
            // A server may break the connection; that is an answer, too.
            let answer = match server.client.send(once).await {
                Ok(answer) => answer::read(answer).await.with_context(|| ask.clone())?,
                Err(_) => json!({"code": 0}),
            };
            if self.until.is_none_or(|code| answer["code"] == code) || begun.elapsed() > PATIENCE {
                break answer;
            }
            tokio::time::sleep(PAUSE).await;
        };
        for (name, place) in &self.keep {
            let value = answer.pointer(place).cloned().unwrap_or_default();
            variables.0.insert(name.clone(), value);
        }
        Ok(answer)
    }
}

#[cfg(test)]
#[path = "case_tests.rs"]
mod tests;

//! Upstream's program: what it has, and what comes of running it.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tiphys_testkit::text;

/// `e2e.test` of one of upstream's releases.
pub(crate) struct Suite(pub(crate) PathBuf);

#[derive(Deserialize)]
struct Case {
    codename: String,
}

/// What the suite posts about a run as each case ends.
#[derive(Deserialize)]
struct Progress {
    msg: String,
    completed: usize,
    failed: usize,
}

impl Suite {
    /// As Kubernetes writes its own: `v1.36.2`.
    pub(crate) fn version(&self) -> Result<String> {
        Ok(self.tell("-version")?.trim().to_owned())
    }

    /// The names of all conformance cases.
    pub(crate) fn cases(&self) -> Result<Vec<String>> {
        let cases: Vec<Case> =
            serde_saphyr::from_str(&self.tell("-list-conformance-tests")?).context("reading the cases")?;
        Ok(cases.into_iter().map(|case| case.codename).collect())
    }

    /// The names of the images that any of its cases may run.
    pub(crate) fn images(&self) -> Result<Vec<String>> {
        Ok(self.tell("-list-images")?.lines().map(str::to_owned).collect())
    }

    fn tell(&self, what: &str) -> Result<String> {
        text(Command::new(&self.0).arg(what))
    }

    /// Runs cases, tells of each as it ends, and returns their names and whether they passed. All that the suite prints goes
    /// to `log`.
    pub(crate) fn run(
        &self,
        arguments: &mut Command,
        log: &File,
        tell: impl Fn(&str),
    ) -> Result<Vec<(String, bool)>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening for progress")?;
        let mut child = arguments
            .args(["-ginkgo.noColor", "-progress-report-url"])
            .arg(format!("http://{}", listener.local_addr()?))
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log.try_clone()?)
            .spawn()
            .with_context(|| format!("starting {arguments:?}"))?;
        let reports = reports(listener);
        let (mut ended, mut told) = (Vec::new(), 0);
        loop {
            let Progress { msg, completed, failed } = match reports.recv_timeout(Duration::from_secs(1)) {
                Ok(report) => report?,
                // Its exit status says no more than its cases do.
                Err(RecvTimeoutError::Timeout) if child.try_wait()?.is_some() => break,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            told = told.max(completed + failed);
            for (word, passed) in [("PASSED ", true), ("FAILED ", false)] {
                if let Some(name) = msg.strip_prefix(word) {
                    tell(&msg);
                    ended.push((name.to_owned(), passed));
                }
            }
        }
        ensure!(told == ended.len(), "the suite ran {told} cases and told of {}", ended.len());
        ensure!(told > 0, "the suite ran no case; see conformance.log");
        Ok(ended)
    }
}

/// What is posted to the listener, for as long as the reports are taken.
fn reports(listener: TcpListener) -> Receiver<Result<Progress>> {
    let (send, reports) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if send.send(stream.context("taking a report").and_then(report)).is_err() {
                break;
            }
        }
    });
    reports
}

fn report(mut stream: TcpStream) -> Result<Progress> {
    let mut request = BufReader::new(&stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        request.read_line(&mut line).context("reading a report's head")?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse()?,
            Some(_) => {}
            None if line.trim_end().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    request.read_exact(&mut body).context("reading a report")?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    serde_json::from_slice(&body).context("reading a report")
}

//! Terminals, attaching, ports, logs that are moved away: against a runtime in this process. They need root.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{BUSYBOX, log_of, status, unable};
use tiphys_cri::Client;
use tiphys_cri::v1::image_service_server::ImageServiceServer;
use tiphys_cri::v1::runtime_service_server::RuntimeServiceServer;
use tiphys_cri::v1::*;
use tiphys_runtime::network::Loopback;
use tiphys_runtime::{Config, Runtime};
use tiphys_streaming::{Backend, Command, Io, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;

struct Local {
    dir: tempfile::TempDir,
    instance: String,
    runtime: Runtime,
    client: Client,
}

/// The client's ends of a session's streams.
struct Ends {
    stdin: Option<DuplexStream>,
    stdout: DuplexStream,
    resize: mpsc::Sender<TerminalSize>,
}

impl Local {
    async fn new() -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").expect("directory");
        let instance = common::new_instance();
        common::import_busybox(&dir.path().join("root"));
        let runtime = Runtime::open(Config {
            root: dir.path().join("root"),
            instance: instance.clone(),
            shim_exe: common::HARNESS.into(),
            shim_arguments: vec!["shim".into()],
            network: Arc::new(Loopback),
        })
        .await
        .expect("runtime opens");
        let client = Client::in_process(
            RuntimeServiceServer::new(runtime.clone()),
            ImageServiceServer::new(runtime.clone()),
        );
        Self { dir, instance, runtime, client }
    }

    /// Starts a container in a sandbox of its own.
    async fn run(&self, script: &str, change: impl FnOnce(&mut ContainerConfig)) -> (String, String) {
        let logs = self.dir.path().join("logs").display().to_string();
        let metadata =
            PodSandboxMetadata { name: "pod".into(), uid: "uid".into(), ..PodSandboxMetadata::default() };
        let pod =
            PodSandboxConfig { metadata: Some(metadata), log_directory: logs, ..PodSandboxConfig::default() };
        let request = RunPodSandboxRequest { config: Some(pod), ..RunPodSandboxRequest::default() };
        let sandbox = self
            .client
            .runtime()
            .run_pod_sandbox(request)
            .await
            .expect("sandbox")
            .into_inner()
            .pod_sandbox_id;
        let mut config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "c".into(), attempt: 0 }),
            image: Some(ImageSpec { image: BUSYBOX.into(), ..ImageSpec::default() }),
            command: vec!["/bin/sh".into(), "-c".into(), script.into()],
            log_path: "c.log".into(),
            ..ContainerConfig::default()
        };
        change(&mut config);
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(config),
            ..CreateContainerRequest::default()
        };
        let container_id =
            self.client.runtime().create_container(request).await.expect("created").into_inner().container_id;
        let request = StartContainerRequest { container_id: container_id.clone() };
        self.client.runtime().start_container(request).await.expect("started");
        (sandbox, container_id)
    }

    fn begin(
        &self,
        container: &str,
        command: Option<&[&str]>,
        stdin: bool,
        tty: bool,
    ) -> (Ends, tokio::task::JoinHandle<Result<i32, String>>) {
        let command = Command {
            container: container.to_owned(),
            command: command.map(|words| words.iter().map(|word| (*word).to_owned()).collect()),
            stdin,
            stdout: true,
            stderr: false,
            tty,
        };
        let (stdout, their_stdout) = duplex(1 << 16);
        let (resize, sizes) = mpsc::channel(4);
        let (stdin, their_stdin) = if stdin {
            let (stdin, theirs) = duplex(1 << 16);
            (Some(stdin), Some(theirs))
        } else {
            (None, None)
        };
        let io = Io {
            stdin: their_stdin.map(|stdin| Box::new(stdin) as _),
            stdout: Some(Box::new(their_stdout)),
            stderr: None,
            resize: sizes,
        };
        let runtime = self.runtime.clone();
        let task = tokio::spawn(async move {
            runtime.run(&command, io).await.map(|status| status.0).map_err(|error| error.to_string())
        });
        (Ends { stdin, stdout, resize }, task)
    }

    /// The code that the container ends with.
    async fn code(&self, container: &str) -> i32 {
        loop {
            let status = common::status(&self.client, container).await;
            if status.state == ContainerState::ContainerExited as i32 {
                return status.exit_code;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn until_log_has(&self, container: &str, text: &str) {
        while !log_of(&status(&self.client, container).await).contains(text) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        common::cleanup(&self.dir.path().join("root"), &self.instance);
    }
}

async fn rest_of(mut stream: DuplexStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("text");
    text
}

async fn read_until(stream: &mut DuplexStream, wanted: &str) -> String {
    let mut seen = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        if text.contains(wanted) {
            return text;
        }
        let mut chunk = [0; 1024];
        let count = stream.read(&mut chunk).await.expect("output");
        assert!(count > 0, "the output ended without {wanted:?}: {text}");
        seen.extend_from_slice(&chunk[..count]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_streams_both_ways() {
    if unable() {
        return;
    }
    let local = Local::new().await;
    let (_, id) = local.run("exec sleep 1000", |_| {}).await;
    let (mut ends, task) = local.begin(&id, Some(&["sh", "-c", "cat; exit 6"]), true, false);
    let mut stdin = ends.stdin.take().expect("stdin");
    let sent = "x".repeat(1 << 20);
    let reading = tokio::spawn(rest_of(ends.stdout));
    stdin.write_all(sent.as_bytes()).await.expect("typed");
    drop(stdin);
    assert_eq!(reading.await.expect("read"), sent);
    assert_eq!(task.await.expect("task"), Ok(6));
    let (_, task) = local.begin(&id, Some(&["nosuch"]), false, false);
    let error = task.await.expect("task").expect_err("isn't there");
    assert!(error.contains("executable file not found in $PATH"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gets_a_terminal_of_the_clients_size() {
    if unable() {
        return;
    }
    let local = Local::new().await;
    let (_, id) = local.run("exec sleep 1000", |_| {}).await;
    let (mut ends, task) = local.begin(&id, Some(&["sh"]), true, true);
    ends.resize.send(TerminalSize { width: 123, height: 45 }).await.expect("size");
    let stdin = ends.stdin.as_mut().expect("stdin");
    stdin
        .write_all(
            b"while [ \"$(stty size)\" != '45 123' ]; do sleep 0.02; done; echo si''zed; tty; exit 3\n",
        )
        .await
        .expect("typed");
    let seen = read_until(&mut ends.stdout, "/dev/pts/").await;
    assert!(seen.contains("sized"), "{seen}");
    assert_eq!(task.await.expect("task"), Ok(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_attaches_to_a_container() {
    if unable() {
        return;
    }
    let local = Local::new().await;
    let wants_input = |config: &mut ContainerConfig| {
        config.stdin = true;
        config.stdin_once = true;
    };
    let (_, id) =
        local.run("while read line; do echo \"got $line\"; done; echo over; exit 4", wants_input).await;
    let (mut ends, task) = local.begin(&id, None, true, false);
    let mut stdin = ends.stdin.take().expect("stdin");
    stdin.write_all(b"one\n").await.expect("typed");
    read_until(&mut ends.stdout, "got one").await;
    drop(stdin);
    read_until(&mut ends.stdout, "over").await;
    assert_eq!(task.await.expect("task"), Ok(0), "the pod tells the container's code");
    local.until_log_has(&id, "F got one\nstdout F over\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_with_a_terminal_is_attached_and_left() {
    if unable() {
        return;
    }
    let local = Local::new().await;
    let terminal = |config: &mut ContainerConfig| {
        config.tty = true;
        config.stdin = true;
    };
    let (_, id) = local
        .run("echo $TERM; while read line; do echo \"got $line\"; [ $line = end ] && exit 2; done", terminal)
        .await;
    local.until_log_has(&id, "F xterm").await;
    let (mut ends, task) = local.begin(&id, None, true, true);
    ends.stdin.as_mut().expect("stdin").write_all(b"one\n").await.expect("typed");
    read_until(&mut ends.stdout, "got one").await;
    // The client goes; the container doesn't mind.
    drop(ends);
    task.abort();
    let (mut ends, task) = local.begin(&id, None, true, true);
    ends.stdin.as_mut().expect("stdin").write_all(b"end\n").await.expect("typed");
    read_until(&mut ends.stdout, "got end").await;
    assert_eq!(task.await.expect("task"), Ok(0), "the pod tells the container's code");
    assert_eq!(local.code(&id).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_the_pod_is_reached() {
    if unable() {
        return;
    }
    let local = Local::new().await;
    let (sandbox, _) =
        local.run("echo answer > /tmp/a; while :; do nc -l -p 8080 < /tmp/a; done", |_| {}).await;
    let answer = loop {
        let (mut ours, mut theirs) = duplex(1 << 16);
        let (runtime, sandbox) = (local.runtime.clone(), sandbox.clone());
        let forwarding =
            tokio::spawn(async move { runtime.forward(&sandbox, 8080, &mut theirs).await.is_ok() });
        let mut chunk = [0; 64];
        let count = ours.read(&mut chunk).await.unwrap_or(0);
        drop(ours);
        if count > 0 {
            forwarding.abort();
            break String::from_utf8_lossy(&chunk[..count]).into_owned();
        }
        // Nobody listens yet.
        assert!(!forwarding.await.expect("task"), "the port said nothing");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(answer, "answer\n");
    let (_, mut theirs) = duplex(64);
    let error = local.runtime.forward(&sandbox, 9999, &mut theirs).await.expect_err("nobody listens");
    assert!(error.to_string().contains("port 9999"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_rotated_without_loss() {
    if unable() {
        return;
    }
    let local = Local::new().await;
    let (_, id) =
        local.run("i=0; while [ $i -lt 200 ]; do echo line$i; i=$((i+1)); sleep 0.005; done", |_| {}).await;
    local.until_log_has(&id, "line20\n").await;
    let path = status(&local.client, &id).await.log_path;
    std::fs::rename(&path, format!("{path}.1")).expect("moved");
    let request = ReopenContainerLogRequest { container_id: id.clone() };
    local.client.runtime().reopen_container_log(request).await.expect("reopened");
    while status(&local.client, &id).await.state != ContainerState::ContainerExited as i32 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let both = std::fs::read_to_string(format!("{path}.1")).expect("old")
        + &std::fs::read_to_string(&path).expect("new");
    let lines: Vec<&str> = both.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    let expected: Vec<String> = (0..200).map(|number| format!("line{number}")).collect();
    assert_eq!(lines, expected);
}

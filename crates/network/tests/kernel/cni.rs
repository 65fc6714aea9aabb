//! Foreign plugin chains: small ones written here, and Debian's where they are installed.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tiphys_network::{
    bridge::{PortMapping, Protocol},
    cni::{Cni, Config, Pod},
};

use crate::support::{Netns, ip, on_a_host};

fn config(dir: &Path) -> Config {
    for sub in ["net.d", "bin"] {
        fs::create_dir_all(dir.join(sub)).unwrap();
    }
    Config { conf_dir: dir.join("net.d"), bin_dirs: vec![dir.join("bin")], state_dir: dir.join("state") }
}

fn network(dir: &Path, conf: &Value) {
    fs::write(dir.join("net.d/10-test.conflist"), conf.to_string()).unwrap();
}

fn pod(sandbox: &str) -> Pod {
    let text = |text: &str| text.to_owned();
    Pod { sandbox: text(sandbox), namespace: text("ns"), name: text("web"), uid: text("u-1") }
}

/// A plugin that notes each call (command, request, and what it was told of the sandbox) and does `body`.
fn plugin(dir: &Path, name: &str, body: &str) {
    let path = dir.join("bin").join(name);
    let log = dir.join("calls");
    let script = format!(
        "#!/bin/sh\nrequest=$(cat)\n\
         if [ $CNI_COMMAND = VERSION ]; then echo '{{\"supportedVersions\":[\"1.0.0\",\"1.1.0\"]}}'; exit; fi\n\
         echo \"{name} $CNI_COMMAND [$CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS] $request\" >> {log}\n{body}\n",
        log = log.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

const GIVES: &str = r#"if [ $CNI_COMMAND = ADD ]; then echo '{"cniVersion":"1.1.0","interfaces":[{"name":"h"},
{"name":"eth0","sandbox":"/x"}],"ips":[{"address":"10.7.0.1/24","interface":0},{"address":"10.7.0.9/24","interface":1}]}'; fi"#;

/// The calls since the last look: plugin and command, the sandbox's words, the request.
fn calls(dir: &Path) -> Vec<(String, String, Value)> {
    let text = fs::read_to_string(dir.join("calls")).unwrap_or_default();
    fs::write(dir.join("calls"), "").unwrap();
    let call = |line: &str| {
        let (head, rest) = line.split_once(" [").unwrap();
        let (sandbox, request) = rest.split_once("] ").unwrap();
        (head.to_owned(), sandbox.to_owned(), serde_json::from_str(request).unwrap())
    };
    text.lines().map(call).collect()
}

fn names(calls: &[(String, String, Value)]) -> Vec<&str> {
    calls.iter().map(|(name, ..)| name.as_str()).collect()
}

#[test]
fn a_chain_is_added_forwards_and_deleted_backwards_with_what_it_answered() {
    on_a_host(|_| async {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let config = config(dir);
        assert!(Cni::open(config.clone()).await.unwrap().is_none(), "nothing configured");
        let conf = |first: &str| {
            json!({"cniVersion": "1.1.0", "name": "net", "plugins": [
                {"type": "first", "option": first},
                {"type": "second", "capabilities": {"portMappings": true}}]})
        };
        network(dir, &conf("a"));
        plugin(dir, "first", GIVES);
        plugin(dir, "second", "");
        let cni = Cni::open(config.clone()).await.unwrap().unwrap();
        cni.status().await.unwrap();
        assert_eq!(names(&calls(dir)), ["first STATUS", "second STATUS"]);

        let netns = Netns::new();
        let port =
            PortMapping { host_ip: None, host_port: 8080, container_port: 80, protocol: Protocol::Tcp };
        let given = cni.attach(&netns.path(), &pod("s1"), std::slice::from_ref(&port)).await.unwrap();
        assert_eq!(
            given,
            ["10.7.0.9".parse::<std::net::IpAddr>().unwrap()],
            "the host's address is not the pod's"
        );
        assert!(netns.run(|| ip("-o link show lo")).contains("UP"));
        let added = calls(dir);
        assert_eq!(names(&added), ["first ADD", "second ADD"]);
        assert_eq!(
            added[0].1,
            "s1 eth0 IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web;\
             K8S_POD_INFRA_CONTAINER_ID=s1;K8S_POD_UID=u-1"
        );
        assert_eq!(added[0].2["option"], "a");
        assert_eq!(added[0].2.get("runtimeConfig"), None, "only for who asked for it");
        let mapping = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
        assert_eq!(added[1].2["runtimeConfig"]["portMappings"], mapping);
        assert_eq!(added[1].2["prevResult"]["ips"][1]["address"], "10.7.0.9/24");

        assert_eq!(cni.attach(&netns.path(), &pod("s1"), &[]).await.unwrap(), given);
        assert!(calls(dir).is_empty(), "attached already");
        cni.check("s1").await.unwrap();
        assert_eq!(names(&calls(dir)), ["first CHECK", "second CHECK"]);

        // Another process, another configuration: the pod goes as it came.
        network(dir, &conf("b"));
        let cni = Cni::open(config).await.unwrap().unwrap();
        cni.reconcile(&BTreeSet::new()).await.unwrap();
        let deleted = calls(dir);
        assert_eq!(names(&deleted), ["second DEL", "first DEL", "first GC", "second GC"]);
        assert_eq!(deleted[1].2["option"], "a");
        assert_eq!(deleted[0].2["prevResult"]["ips"][1]["address"], "10.7.0.9/24");
        assert_eq!(deleted[2].2["cni.dev/valid-attachments"], json!([]));
        cni.detach("s1").await.unwrap();
        assert!(calls(dir).is_empty(), "detached already");
    });
}

#[test]
fn a_failing_plugin_is_quoted_and_what_was_done_is_undone() {
    on_a_host(|_| async {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let config = config(dir);
        network(
            dir,
            &json!({"cniVersion": "1.0.0", "name": "net", "plugins": [
            {"type": "first"}, {"type": "second"}]}),
        );
        plugin(dir, "first", GIVES);
        let missing = Cni::open(config.clone()).await.unwrap_err().to_string();
        assert!(missing.contains("second") && missing.contains("bin"), "{missing}");
        let fails = r#"if [ $CNI_COMMAND = ADD ]; then echo '{"code": 11, "msg": "no more", "details": "try later"}'; exit 1; fi"#;
        plugin(dir, "second", fails);
        let cni = Cni::open(config).await.unwrap().unwrap();
        let netns = Netns::new();
        let error = cni.attach(&netns.path(), &pod("s1"), &[]).await.unwrap_err().to_string();
        assert_eq!(error, "CNI plugin second ADD failed: no more (code 11): try later");
        assert_eq!(names(&calls(dir)), ["first ADD", "second ADD", "second DEL", "first DEL"]);
        assert_eq!(fs::read_dir(dir.join("state")).unwrap().count(), 0);

        let error = cni.attach(&netns.path(), &pod("../s1"), &[]).await.unwrap_err().to_string();
        assert!(error.contains("../s1"), "{error}");
        network(dir, &json!({"cniVersion": "0.4.0", "name": "net", "plugins": [{"type": "first"}]}));
        let error = Cni::open(self::config(dir)).await.unwrap_err().to_string();
        assert_eq!(error, "CNI plugin first does not speak version 0.4.0");
    });
}

#[test]
fn real_plugins_connect_pods() {
    let bin = PathBuf::from("/usr/lib/cni");
    if !["bridge", "host-local"].iter().all(|plugin| bin.join(plugin).is_file()) {
        eprintln!("skipped: Debian's containernetworking-plugins is not installed");
        return;
    }
    on_a_host(move |host| async move {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { bin_dirs: vec![bin], ..config(dir.path()) };
        network(
            dir.path(),
            &json!({"cniVersion": "1.0.0", "name": "net", "plugins": [{
            "type": "bridge", "bridge": "br-test", "isGateway": true, "isDefaultGateway": true,
            "ipam": {"type": "host-local", "subnet": "10.7.0.0/24", "dataDir": dir.path().join("ipam")}}]}),
        );
        let cni = Cni::open(config).await.unwrap().unwrap();
        let (a, b) = (Netns::new(), Netns::new());
        // Plugins are other processes; only a path that they can open, too, will do.
        let path = |netns: &Netns| {
            let text = netns.path().display().to_string();
            PathBuf::from(text.replace("/self/", &format!("/{}/", std::process::id())))
        };
        let of_a = cni.attach(&path(&a), &pod("a"), &[]).await.unwrap();
        cni.attach(&path(&b), &pod("b"), &[]).await.unwrap();
        a.serve(80, "a");
        let to = format!("{}:80", of_a[0]);
        assert_eq!(b.ask(&to).unwrap().0, "a");
        assert_eq!(host.ask(&to).unwrap().0, "a");
        cni.check("a").await.unwrap();
        drop(b);
        for id in ["a", "b"] {
            cni.detach(id).await.unwrap();
        }
        // The kernel takes a namespace, and what is in it, down behind its last user's back.
        while ip("-o link").contains("veth") {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
}

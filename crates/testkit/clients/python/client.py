"""Real work by the official Python client, against the cluster that KUBECONFIG names.

Each step is a function; a broken promise is an exception, and the program's end with it. The image `busybox:1` must be there.
"""

import threading
import time

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock
from kubernetes.stream import portforward, stream

NAMESPACE = "python"


def refused(status, call, *arguments, **more):
    """Calls what must be refused with a status; returns the answer's text."""
    try:
        call(*arguments, **more)
    except (ApiException, dynamic.exceptions.DynamicApiError) as error:
        assert error.status == status, error
        return error.body.decode() if isinstance(error.body, bytes) else error.body
    raise AssertionError(f"{call} should have been refused with {status}")


def eventually(what, holds):
    """Waits for something that the cluster is to bring about."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def namespaces(core):
    made = core.create_namespace({"metadata": {"name": NAMESPACE}})
    assert made.status.phase == "Active" and made.metadata.uid
    accounts = lambda: core.list_namespaced_service_account(NAMESPACE).items
    eventually("the default account", lambda: any(a.metadata.name == "default" for a in accounts()))


def objects(core):
    """Creates, reads, changes in three ways, and deletes, with typed models."""
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="one", labels={"app": "one"}), data={"a": "1"})
    made = core.create_namespaced_config_map(NAMESPACE, body)
    assert made.data == {"a": "1"} and made.metadata.creation_timestamp
    assert '"AlreadyExists"' in refused(409, core.create_namespaced_config_map, NAMESPACE, body)
    merged = core.patch_namespaced_config_map("one", NAMESPACE, {"data": {"b": "2", "a": None}})
    assert merged.data == {"b": "2"}
    operations = [{"op": "test", "path": "/data/b", "value": "2"}, {"op": "add", "path": "/data/c", "value": "3"}]
    assert core.patch_namespaced_config_map("one", NAMESPACE, operations).data == {"b": "2", "c": "3"}
    merged.data = {"stale": "x"}
    assert '"Conflict"' in refused(409, core.replace_namespaced_config_map, "one", NAMESPACE, merged)
    fresh = core.read_namespaced_config_map("one", NAMESPACE)
    fresh.data = {"d": "4"}
    assert core.replace_namespaced_config_map("one", NAMESPACE, fresh).data == {"d": "4"}
    assert core.create_namespaced_config_map(
        NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(generate_name="drawn-")), dry_run="All"
    ).metadata.name.startswith("drawn-")
    assert core.delete_namespaced_config_map("one", NAMESPACE)["status"] == "Success"
    refused(404, core.read_namespaced_config_map, "one", NAMESPACE)


def pages(core):
    """Lists in pages that are of one revision, selects, and deletes what is selected."""
    for number in range(7):
        labels = {"page": "yes", "odd": str(number % 2)}
        core.create_namespaced_secret(NAMESPACE, {"metadata": {"name": f"s{number}", "labels": labels}})
    names, token, revisions = [], None, set()
    while True:
        page = core.list_namespaced_secret(NAMESPACE, label_selector="page", limit=3, _continue=token)
        names += [item.metadata.name for item in page.items]
        revisions.add(page.metadata.resource_version)
        token = page.metadata._continue
        if not token:
            break
        if len(names) == 3:
            core.delete_namespaced_secret("s6", NAMESPACE)
    assert names == [f"s{n}" for n in range(7)], names
    assert len(revisions) == 1, revisions
    one = core.list_namespaced_secret(NAMESPACE, field_selector="metadata.name=s2").items
    assert [item.metadata.name for item in one] == ["s2"]
    core.delete_collection_namespaced_secret(NAMESPACE, label_selector="page,odd=1")
    left = core.list_namespaced_secret(NAMESPACE, label_selector="page in (yes)").items
    assert [item.metadata.name for item in left] == ["s0", "s2", "s4"]
    assert "continue" in refused(400, core.list_namespaced_secret, NAMESPACE, _continue="made up", limit=1)


def watches(core):
    """Sees every change once and in order, also after the watch was resumed where it ended."""
    seen, begun = [], core.list_namespaced_config_map(NAMESPACE).metadata.resource_version

    def change():
        for number in range(3):
            body = {"metadata": {"name": f"w{number}"}, "data": {"n": "0"}}
            core.create_namespaced_config_map(NAMESPACE, body)
            core.patch_namespaced_config_map(f"w{number}", NAMESPACE, {"data": {"n": "1"}})
            core.delete_namespaced_config_map(f"w{number}", NAMESPACE)

    worker = threading.Thread(target=change)
    worker.start()
    while len(seen) < 9:
        watcher = watch.Watch()
        events = watcher.stream(
            core.list_namespaced_config_map, NAMESPACE, resource_version=begun, timeout_seconds=30
        )
        for event in events:
            if not event["object"].metadata.name.startswith("w"):
                continue
            begun = event["object"].metadata.resource_version
            seen.append((event["type"], event["object"].metadata.name))
            if len(seen) % 2 == 0 or len(seen) == 9:
                watcher.stop()
    worker.join()
    assert seen == [(kind, f"w{n}") for n in range(3) for kind in ("ADDED", "MODIFIED", "DELETED")], seen


def workloads(api, core):
    """A Deployment made from YAML comes up; it is scaled through its subresource and described by its status."""
    container = {"name": "c", "image": "busybox:1", "command": ["sh", "-c", "echo begun; exec httpd -f -p 80 -h /bin"]}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
        },
    }
    utils.create_from_dict(api, deployment, namespace=NAMESPACE)
    apps = client.AppsV1Api(api)
    ready = lambda: apps.read_namespaced_deployment("web", NAMESPACE).status.ready_replicas
    eventually("the first pod", lambda: ready() == 1)
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 2}})
    assert apps.read_namespaced_deployment_scale("web", NAMESPACE).spec.replicas == 2
    eventually("the second pod", lambda: ready() == 2)
    pods = core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items
    assert all(pod.metadata.owner_references[0].kind == "ReplicaSet" for pod in pods)
    return pods[0].metadata.name


def streams(core, pod):
    """Runs commands in a container, reads its log, and reaches its port."""
    run = lambda *command, **more: stream(
        core.connect_get_namespaced_pod_exec, pod, NAMESPACE, command=list(command), stderr=True, stdin=False,
        stdout=True, tty=False, **more
    )
    assert run("hostname") == f"{pod}\n"
    script = ["sh", "-c", "echo out; echo bad >&2; read line; echo got $line; exit 3"]
    session = stream(
        core.connect_get_namespaced_pod_exec, pod, NAMESPACE, command=script, stderr=True, stdin=True, stdout=True,
        tty=False, _preload_content=False
    )
    session.write_stdin("typed\n")
    session.run_forever(timeout=30)
    assert session.read_stdout() == "out\ngot typed\n" and session.read_stderr() == "bad\n"
    assert session.returncode == 3, session.returncode
    assert core.read_namespaced_pod_log(pod, NAMESPACE) == "begun\n"
    forwarded = portforward(core.connect_get_namespaced_pod_portforward, pod, NAMESPACE, ports="80")
    socket = forwarded.socket(80)
    socket.setblocking(True)
    socket.sendall(b"GET /nowhere HTTP/1.0\r\n\r\n")
    answer = b""
    while part := socket.recv(4096):
        answer += part
    assert answer.startswith(b"HTTP/1.1 404"), answer
    assert forwarded.error(80) is None, forwarded.error(80)


def dynamically(api):
    """Works with kinds that the client has no model of: finds them by discovery, a custom one too."""
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {"size": {"type": "integer", "minimum": 1}, "kind": {"type": "string", "default": "plain"}},
            },
            "status": {"type": "object", "properties": {"size": {"type": "integer"}}},
        },
    }
    version = {
        "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    names = {"plural": "boxes", "singular": "box", "kind": "Box", "shortNames": ["bx"]}
    definition = {
        "metadata": {"name": "boxes.python.example.com"},
        "spec": {"group": "python.example.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }
    extensions = client.ApiextensionsV1Api(api)
    extensions.create_custom_resource_definition(definition)
    conditions = lambda: extensions.read_custom_resource_definition_status("boxes.python.example.com").status.conditions
    eventually("the definition", lambda: any(c.type == "Established" and c.status == "True" for c in conditions() or []))

    found = dynamic.DynamicClient(api)
    boxes = found.resources.get(api_version="python.example.com/v1", kind="Box")
    assert boxes.namespaced and boxes.name == "boxes"
    box = {"apiVersion": "python.example.com/v1", "kind": "Box", "metadata": {"name": "b"}, "spec": {"size": 2}}
    made = boxes.create(body=box, namespace=NAMESPACE)
    assert made.spec.kind == "plain"
    wrong = {"spec": {"size": 0}}
    said = refused(422, boxes.patch, body=wrong, name="b", namespace=NAMESPACE, content_type="application/merge-patch+json")
    assert "should be greater than or equal to 1" in said, said
    status = {**box, "metadata": {"name": "b", "resourceVersion": made.metadata.resourceVersion}, "status": {"size": 2}}
    assert boxes.status.replace(body=status, name="b", namespace=NAMESPACE).status.size == 2
    assert [item.metadata.name for item in boxes.get(namespace=NAMESPACE).items] == ["b"]
    for event in boxes.watch(namespace=NAMESPACE, name="b", timeout=30):
        assert event["type"] == "ADDED" and event["object"].spec.size == 2
        break

    custom = client.CustomObjectsApi(api)
    listed = custom.list_namespaced_custom_object("python.example.com", "v1", NAMESPACE, "boxes")
    assert listed["kind"] == "BoxList" and len(listed["items"]) == 1
    boxes.delete(name="b", namespace=NAMESPACE)
    extensions.delete_custom_resource_definition("boxes.python.example.com")


def applies(api, core):
    """Two managers apply one object: what both want, what one gives up, what they quarrel about."""
    found = dynamic.DynamicClient(api)
    maps = found.resources.get(api_version="v1", kind="ConfigMap")
    body = lambda data: {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": data}
    apply = lambda manager, data, **more: maps.server_side_apply(
        body=body(data), name="applied", namespace=NAMESPACE, field_manager=manager, **more
    )
    apply("one", {"a": "1", "shared": "x"})
    assert apply("two", {"b": "2", "shared": "x"}).data.to_dict() == {"a": "1", "b": "2", "shared": "x"}
    said = refused(409, apply, "two", {"a": "other"})
    assert 'conflict with \\"one\\": .data.a' in said, said
    assert apply("one", {"shared": "x"}).data.to_dict() == {"b": "2", "shared": "x"}
    assert apply("two", {"shared": "mine"}, force_conflicts=True).data.to_dict() == {"shared": "mine"}
    managers = {
        entry.manager: (entry.operation, entry.fields_v1)
        for entry in core.read_namespaced_config_map("applied", NAMESPACE).metadata.managed_fields
    }
    assert managers == {"two": ("Apply", {"f:data": {"f:shared": {}}})}, managers


def elections():
    """One leads, by the lock that the client brings."""
    led, lock = threading.Event(), ConfigMapLock("leader", NAMESPACE, "me")
    election = electionconfig.Config(lock, 3, 2, 1, onstarted_leading=led.set, onstopped_leading=lambda: None)
    # Who leads goes on leading until the program ends.
    threading.Thread(target=leaderelection.LeaderElection(election).run, daemon=True).start()
    assert led.wait(30)


def rights(api):
    """May do as an administrator does, and not as somebody else."""
    asks = client.AuthorizationV1Api(api)
    wish = {"namespace": NAMESPACE, "verb": "delete", "resource": "pods"}
    assert asks.create_self_subject_access_review({"spec": {"resourceAttributes": wish}}).status.allowed
    review = {"spec": {"user": "guest", "resourceAttributes": wish}}
    assert not asks.create_subject_access_review(review).status.allowed
    token = client.CoreV1Api(api).create_namespaced_service_account_token("default", NAMESPACE, {"spec": {}}).status.token
    other = client.Configuration.get_default_copy()
    other.cert_file = other.key_file = None
    other.api_key = {"authorization": f"Bearer {token}"}
    said = refused(403, client.CoreV1Api(client.ApiClient(other)).list_namespaced_secret, NAMESPACE)
    assert f"system:serviceaccount:{NAMESPACE}:default" in said, said


def main():
    config.load_kube_config()
    api = client.ApiClient()
    core = client.CoreV1Api(api)
    assert client.VersionApi(api).get_code().minor == "37"
    namespaces(core)
    objects(core)
    pages(core)
    watches(core)
    streams(core, workloads(api, core))
    dynamically(api)
    applies(api, core)
    elections()
    rights(api)
    core.delete_namespace(NAMESPACE)
    gone = lambda: NAMESPACE not in [n.metadata.name for n in core.list_namespace().items]
    eventually("the end of the namespace", gone)


main()

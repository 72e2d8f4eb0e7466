"""A Kubernetes API for tests, as far as kubectl needs it to check, make, list, reach and delete
the pods of a job, which run for real on this machine (pods.py).

Prints "port N" when it answers at 127.0.0.1; ends, with all pods, when its input does. Beside the
API there is /test, for tests: POST {"quota": {…}, "bad_images": […], "drop": "jobs", "allow":
false, "logged_in": false} changes the cluster, GET tells what was asked.
"""

import argparse
import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import cluster
import exec_stream
import pods
import schema

# resource: (group and version, kind, is in a namespace)
RESOURCES = {
    "pods": ("v1", "Pod", True),
    "services": ("v1", "Service", True),
    "events": ("v1", "Event", True),
    "resourcequotas": ("v1", "ResourceQuota", True),
    "nodes": ("v1", "Node", False),
    "jobs": ("batch/v1", "Job", True),
    "selfsubjectaccessreviews": ("authorization.k8s.io/v1", "SelfSubjectAccessReview", False),
    "jobsets": ("jobset.x-k8s.io/v1alpha2", "JobSet", True),
}
SHORT = {"services": ["svc"], "pods": ["po"], "resourcequotas": ["quota"]}


class Failure(Exception):
    def __init__(self, code, reason, message):
        super().__init__(message)
        self.status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        self.status |= {"message": message, "reason": reason, "code": code}


class State:
    def __init__(self, made, has_jobsets):
        self.cluster = made
        self.resources = dict(RESOURCES)
        if not has_jobsets:
            del self.resources["jobsets"]
        self.log = []  # "POST jobs"
        self.drop = ""  # resource: the next answer to its creation gets lost
        self.allow = self.logged_in = True

    def groups(self):
        return sorted({group for group, _, _ in self.resources.values()})

    def change(self, order):
        if "quota" in order:
            quota = {"apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": order["quota"]}}
            quota |= {"metadata": {"name": "team"}, "status": {}}
            self.cluster.add("resourcequotas", "default", quota)
            self.cluster.tick()
        self.cluster.bad_images |= set(order.get("bad_images", []))
        self.drop = order.get("drop", self.drop)
        self.allow = order.get("allow", self.allow)
        self.logged_in = order.get("logged_in", self.logged_in)

    def discovery(self, path):
        if path == "/version":
            return {"major": "1", "minor": "32", "gitVersion": "v1.32.4"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = []
            for group in self.groups():
                if "/" in group:
                    version = {"groupVersion": group, "version": group.split("/")[1]}
                    name = group.split("/")[0]
                    groups.append({"name": name, "versions": [version]})
                    groups[-1]["preferredVersion"] = version
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        if path == "/openapi/v3":
            paths = [("apis/" if "/" in group else "api/") + group for group in self.groups()]
            return {"paths": {p: {"serverRelativeURL": "/openapi/v3/" + p} for p in paths}}
        for group in self.groups():
            root = ("/apis/" if "/" in group else "/api/") + group
            if path == root:
                return self.resource_list(group)
            if path == "/openapi/v3" + root:
                return self.openapi(group, root)
        return None

    def resource_list(self, group):
        resources = []
        verbs = ["create", "delete", "get", "list", "patch", "watch"]
        for name, (where, kind, namespaced) in self.resources.items():
            if where == group:
                about = {"name": name, "singularName": kind.lower(), "namespaced": namespaced}
                about |= {"kind": kind, "verbs": verbs, "shortNames": SHORT.get(name, [])}
                resources.append(about)
        kind = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group}
        return kind | {"resources": resources}

    def openapi(self, group, root):
        """Says of each resource that the server itself looks at unknown fields."""
        paths = {}
        for name, (where, kind, _) in self.resources.items():
            if where == group:
                first, _, version = group.rpartition("/")
                about = {"group": first, "version": version, "kind": kind}
                parameter = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
                operation = {"parameters": [parameter], "x-kubernetes-group-version-kind": about}
                paths[f"{root}/namespaces/{{namespace}}/{name}/{{name}}"] = {"patch": operation}
        info = {"title": "Kubernetes", "version": "v1.32.4"}
        return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": {}}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer()

    do_POST = do_DELETE = do_PATCH = do_GET

    def answer(self):
        text = self.body()
        # Who asks for permissions asks in protobuf; the answer does not need the question.
        body = json.loads(text) if text.startswith(b"{") else {}
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        try:
            if url.path.endswith("/exec"):
                self.execute(url.path.split("/"), query)
                return
            code, answer = self.respond(url.path.rstrip("/"), query, body)
        except Failure as failure:
            code, answer = failure.status["code"], failure.status
        if answer is None:  # lost on its way
            self.close_connection = True
            return
        text = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def respond(self, path, query, body):
        state = self.state
        if path == "/test":
            with state.cluster.lock:
                state.change(body)
                return 200, {"log": state.log, "drop": state.drop}
        found = state.discovery(path)
        if found is not None:
            return 200, found
        if not state.logged_in:
            raise Failure(401, "Unauthorized", "Unauthorized")
        resource, namespace, name = self.parse(path)
        with state.cluster.lock:
            state.log.append(f"{self.command} {resource}" + (f"/{name}" if name else ""))
            if resource == "selfsubjectaccessreviews":
                group, kind, _ = state.resources[resource]
                return 201, {"apiVersion": group, "kind": kind, "status": {"allowed": state.allow}}
            if self.command == "POST":
                return self.create(resource, namespace, query, body)
            if name:
                return self.one(resource, namespace, name)
            return 200, self.list(resource, namespace, query)

    def parse(self, path):
        """/apis/G/V/namespaces/NS/RESOURCE/NAME and the shorter ones."""
        parts = path.split("/")[1:]
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = ""
        if parts[:1] == ["namespaces"] and len(parts) > 2:
            namespace, parts = parts[1], parts[2:]
        if not parts or parts[0] not in self.state.resources:
            raise Failure(404, "NotFound", "the server could not find the requested resource")
        return parts[0], namespace, parts[1] if len(parts) > 1 else ""

    def create(self, resource, namespace, query, body):
        state = self.state
        unknown, invalid = schema.check(body)
        name = body["metadata"]["name"]
        if unknown and query.get("fieldValidation") == ["Strict"]:
            text = "strict decoding error: " + ", ".join(unknown)
            raise Failure(400, "BadRequest", f"{body['kind']} in version is bad: {text}")
        if unknown or invalid:
            text = f'{body["kind"]} "{name}" is invalid: {", ".join(unknown + invalid)}'
            raise Failure(422, "Invalid", text)
        if (resource, namespace, name) in state.cluster.objects:
            raise Failure(409, "AlreadyExists", f'{resource} "{name}" already exists')
        body["status"] = {}
        made = state.cluster.add(resource, namespace, body)
        if state.drop == resource:
            state.drop = ""
            return 201, None
        return 201, made

    def one(self, resource, namespace, name):
        found = self.state.cluster.objects.get((resource, namespace, name))
        if found is None:
            raise Failure(404, "NotFound", f'{resource} "{name}" not found')
        if self.command == "DELETE":
            self.state.cluster.delete(resource, found)
            return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        if self.command == "PATCH":
            raise Failure(422, "Invalid", f'{resource} "{name}": field is immutable')
        return 200, found

    def list(self, resource, namespace, query):
        group, kind, _ = self.state.resources[resource]
        items = self.state.cluster.list(resource, namespace or None)
        selector = query.get("labelSelector", [""])[0]
        items = [obj for obj in items if cluster.labels_match(obj, selector)]
        for term in filter(None, query.get("fieldSelector", [""])[0].split(",")):
            field, _, value = term.partition("=")
            items = [obj for obj in items if field_of(obj, field) == value]
        return {
            "kind": kind + "List",
            "apiVersion": group,
            "metadata": {"resourceVersion": "1"},
            "items": items,
        }

    def execute(self, parts, query):
        state = self.state
        namespace, name = parts[4], parts[6]
        with state.cluster.lock:
            state.log.append(f"exec {name}")
            pod = state.cluster.objects.get(("pods", namespace, name))
            if pod is None:
                raise Failure(404, "NotFound", f'pods "{name}" not found')
            container = state.cluster.containers.get(pod["metadata"]["uid"])
            words = None if container is None else container.exec_argv(query["command"])
        if words is None:
            raise Failure(400, "BadRequest", f"pod {name} does not have a running container")
        socket = exec_stream.handshake(self)
        if socket is None:
            raise Failure(400, "BadRequest", "only websockets are served")
        exec_stream.run(socket, words, container.environment, "stdin" in query)
        self.close_connection = True


def field_of(obj, path):
    for part in path.split("."):
        obj = obj.get(part, {})
    return obj


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bridge", required=True, help="name of the pods' network bridge")
    parser.add_argument("--subnet", required=True, type=int, help="N of the pods' 10.79.N.0/24")
    parser.add_argument("--home", required=True, help="folder where each pod sees its own home")
    parser.add_argument("--node", action="append", default=[], help="cpu=4,memory=16Gi")
    parser.add_argument("--jobset", action="store_true", help="with JobSet installed")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    network = pods.Network(options.bridge, options.subnet)
    made = cluster.Cluster(network, options.home, options.node)
    try:
        Handler.state = State(made, options.jobset)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=made.run, daemon=True).start()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"port {server.server_address[1]}", flush=True)
        sys.stdin.read()
    finally:
        with made.lock:
            made.remove_all()
        network.remove()


if __name__ == "__main__":
    main()

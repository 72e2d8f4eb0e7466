"""A Compute Engine for tests of the real `gcloud`, with a real machine behind each instance (fake_machines.py).

As the real one it makes all instances of a bulk insert or none of them, refuses names that exist, answers with operations that have to
be waited for, and deletes what has run for its maxRunDuration; what turns itself off is stopped, and its deadline forgotten. The image's guest agent
is played: it lets in who is in the metadata, and runs the startup script.

    fake_gcp.py FOLDER BUILD_ID PROGRAMS     prints "port N", and serves until SIGTERM

    POST /_fault      [{"action": "bulkInsert", "times": 1, "code": "QUOTA…", "message": "…", "status": 403}]   refuses like that
                      without "status": accepts it, and its operation ends like that;  {"skip": n}: not the first n;
                      {"lose": true}: does it, and closes the connection without an answer;  {"sleep": s}: answers later
                      {"spot": true}: of calls for spot machines alone
    POST /_take       "NAME S": the spot machine hears that it is taken back in S seconds, and is; without S at once, and hears nothing
    GET  /_asked      the actions that were asked for, a line each
    GET  /_machines   name, address and state of each instance, and whether it is spot, a line each
    GET  /_instance   what was asked for the first instance, in JSON
    POST /_kill       an instance's name: the machine dies without a word, as hardware does
    POST /_speed      so many times faster than they say do maxRunDurations end
    POST /_sleep      so many times faster than it says the startup script's `sleep` does
"""

import email.parser
import json
import os
import signal
import sys
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fake_machines import Faults, Machine, Network

PROJECT = "muster-test"
ZONES = {"us-central1": ["us-central1-a", "us-central1-b"], "europe-west4": ["europe-west4-a"]}
QUOTAS = {"us-central1": {"CPUS": (72, 8), "NVIDIA_T4_GPUS": (1, 0)}, "europe-west4": {"CPUS": (2, 0)}}
PROJECT_QUOTAS = {"NETWORKS": (5, 1), "GPUS_ALL_REGIONS": (1, 1)}
TYPES = ["n1-standard-4", "n1-standard-8", "n1-highmem-8", "n1-highcpu-16"]


class Refused(Exception):
    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Lost(Exception):
    """The connection closes without an answer."""


class Cloud:
    def __init__(self, network):
        self.network, self.faults = network, Faults()
        self.lock = threading.Lock()
        self.speed = 1.0
        self.instances, self.operations, self.images, self.asked = {}, {}, {}, []
        self.url = ""  # of the project's resources

    # ---- the API: each call gives its answer, or raises Refused or Lost

    def call(self, method, path, query, body):
        action, run = self.route(method, path, query, body)
        with self.lock:
            self.asked.append(action)
            fault = self.faults.take(action, spot='"SPOT"' in (body or ""))
        if fault and "sleep" in fault:
            time.sleep(fault["sleep"])
        if fault and "status" in fault:
            raise Refused(fault["status"], fault["code"], fault["message"])
        if fault and "message" in fault:
            return self.operation(action, path, group=uuid.uuid4().hex, error={"code": fault["code"], "message": fault["message"]})
        answer = run()
        if fault and fault.get("lose"):
            raise Lost
        return answer

    def route(self, method, path, query, body):
        parts = path.removeprefix("/compute/v1/projects/").split("/")
        if parts[0] == "debian-cloud":
            return "image", lambda: self.image(parts[-1])
        if parts[0] != PROJECT:
            raise Refused(404, "notFound", f"Failed to find project {parts[0]}")
        rest = parts[1:]
        if not rest:
            return "project", self.project
        if rest[0] == "regions" and len(rest) == 2:
            return "region", lambda: self.region(rest[1])
        if rest[:2] == ["global", "images"] and method == "POST":
            return "image", lambda: self.create_image(json.loads(body))
        if rest == ["global", "images"]:
            return "images", lambda: {"kind": "compute#imageList", "id": "m", "items": list(self.images.values())}
        if rest[:2] == ["global", "images"] and method == "DELETE":
            return "delete image", lambda: self.delete_image(rest[2])
        if rest[:2] == ["global", "images"]:
            return "image", lambda: self.images[rest[2]] if rest[2] in self.images else self.missing("/".join(rest))
        if rest[:2] == ["global", "operations"]:
            return "wait", lambda: self.operations[rest[2]]
        if rest == ["aggregated", "instances"]:
            return "list", self.list
        if rest[0] == "zones" and len(rest) > 2:
            zone = rest[1]
            if rest[2] == "machineTypes":
                return "machineTypes", lambda: self.machine_types(zone)
            if rest[2:] == ["instances", "bulkInsert"]:
                return "bulkInsert", lambda: self.bulk_insert(path, zone, json.loads(body))
            if rest[2] == "instances" and method == "DELETE":
                return "delete", lambda: self.delete(path, zone, rest[3])
            if rest[2] == "instances" and rest[-1] == "stop":
                return "stop", lambda: self.stop(path, zone, rest[3])
            if rest[2] == "operations" and rest[-1] == "wait":
                return "wait", lambda: dict(self.operations[rest[3]], status="DONE")
            if rest[2] == "operations":
                return "operations", lambda: self.group(urllib.parse.unquote_plus(query))
        return "unknown", lambda: self.missing("/".join(rest))

    def missing(self, what):
        raise Refused(404, "notFound", f"The resource 'projects/{PROJECT}/{what}' was not found")

    def image(self, name):
        if name != "debian-12":
            raise Refused(404, "notFound", f"The resource 'projects/debian-cloud/global/images/family/{name}' was not found")
        return {"kind": "compute#image", "name": "debian-12-bookworm-v20261110", "architecture": "X86_64", "id": "7"}

    def create_image(self, asked):
        """Of the disk of an instance that does not run."""
        disk, name = asked["sourceDisk"].split("/")[-1], asked["name"]
        with self.lock:
            if disk not in self.instances:
                self.missing(f"disks/{disk}")
            if self.instances[disk]["resource"]["status"] != "TERMINATED":
                raise Refused(400, "resourceInUse", f"The disk resource '{disk}' is already being used by 'instances/{disk}'")
            self.images[name] = {"kind": "compute#image", "id": "7", "name": name, "architecture": "X86_64", "status": "READY",
                                 "labels": asked.get("labels", {}), "diskSizeGb": "10", "creationTimestamp": "2026-11-22T06:30:00.000-08:00", "selfLink": f"{self.url}global/images/{name}"}
            return self.global_operation("insert", name)

    def delete_image(self, name):
        with self.lock:
            if name not in self.images:
                self.missing(f"global/images/{name}")
            del self.images[name]
            return self.global_operation("delete", name)

    def global_operation(self, kind, image):
        operation = f"operation-{uuid.uuid4()}"
        self.operations[operation] = {
            "kind": "compute#operation", "id": "9", "name": operation, "operationType": kind, "status": "DONE", "progress": 100,
            "targetId": "7", "targetLink": f"{self.url}global/images/{image}", "selfLink": f"{self.url}global/operations/{operation}"}
        return self.operations[operation]

    def project(self):
        quotas = [{"metric": m, "limit": float(limit), "usage": float(usage)} for m, (limit, usage) in PROJECT_QUOTAS.items()]
        return {"kind": "compute#project", "name": PROJECT, "quotas": quotas}

    def region(self, name):
        if name not in ZONES:
            self.missing(f"regions/{name}")
        quotas = [{"metric": m, "limit": float(limit), "usage": float(usage)} for m, (limit, usage) in QUOTAS[name].items()]
        return {"kind": "compute#region", "name": name, "zones": [f"{self.url}zones/{z}" for z in ZONES[name]], "quotas": quotas}

    def machine_types(self, zone):
        if zone not in sum(ZONES.values(), []):
            self.missing(f"zones/{zone}")
        return {"kind": "compute#machineTypeList", "id": "t", "items": [
            {"kind": "compute#machineType", "name": name, "zone": zone, "selfLink": f"{self.url}zones/{zone}/machineTypes/{name}"}
            for name in TYPES]}

    def list(self):
        scopes = {}
        with self.lock:
            for instance in self.instances.values():
                scopes.setdefault(f"zones/{instance['where']}", {"instances": []})["instances"].append(instance["resource"])
        return {"kind": "compute#instanceAggregatedList", "id": "i", "items": scopes}

    def bulk_insert(self, path, zone, asked):
        names, properties = list(asked["perInstanceProperties"]), asked["instanceProperties"]
        group = uuid.uuid4().hex
        with self.lock:
            for name in names:
                if name in self.instances:
                    raise Refused(409, "alreadyExists",
                                  f"The resource 'projects/{PROJECT}/zones/{zone}/instances/{name}' already exists")
            for name in names:
                self.boot(zone, name, properties)
        for name in names:
            self.operation("insert", f"{path.removesuffix('bulkInsert')}{name}", group=group)
        return dict(self.operation("bulkInsert", path, group=group), status="RUNNING")

    def boot(self, zone, name, properties):
        metadata = {item["key"]: item["value"] for item in properties["metadata"]["items"]}
        user, key = metadata["ssh-keys"].split(":", 1)
        assert user == "root", "the namespaces have no other"
        spot = properties["scheduling"].get("provisioningModel") == "SPOT"
        lets_in = f"mkdir -p -m 700 /root/.ssh; echo '{key}' >/root/.ssh/authorized_keys\n"
        machine = Machine(self.network, name, lets_in + metadata["startup-script"], spot)
        self.instances[name] = {
            "machine": machine, "where": zone, "began": time.monotonic(), "asked": properties,
            "seconds": float(properties["scheduling"]["maxRunDuration"]["seconds"]),
            "resource": {
                "kind": "compute#instance", "id": str(uuid.uuid4().int % 10**18), "name": name, "status": "RUNNING",
                "zone": f"{self.url}zones/{zone}", "selfLink": f"{self.url}zones/{zone}/instances/{name}",
                "labels": properties["labels"], "metadata": properties["metadata"], "scheduling": properties["scheduling"],
                "networkInterfaces": [{"networkIP": machine.address, "accessConfigs": [{"natIP": machine.address}]}]}}

    def delete(self, path, zone, name):
        if not self.end([name]):
            self.missing(f"zones/{zone}/instances/{name}")
        return self.operation("delete", path)

    def stop(self, path, zone, name):
        with self.lock:
            if name not in self.instances:
                self.missing(f"zones/{zone}/instances/{name}")
            self.instances[name]["machine"].die()
            self.instances[name]["resource"]["status"] = "TERMINATED"
        return self.operation("stop", path.removesuffix("/stop"))

    def end(self, names):
        with self.lock:
            gone = [self.instances.pop(name) for name in names if name in self.instances]
        for instance in gone:
            instance["machine"].kill()
        return len(gone) == len(names)

    def take_back(self, name, seconds=None):
        if seconds is not None:
            self.instances[name]["machine"].give_notice(float(seconds))
            time.sleep(float(seconds))
        self.end([name])

    def operation(self, kind, path, group=None, error=None):
        zone = path.split("/zones/")[1].split("/")[0]
        name = f"operation-{uuid.uuid4()}"
        answer = {"kind": "compute#operation", "id": "9", "name": name, "operationType": kind, "status": "DONE", "progress": 100,
                  "zone": f"{self.url}zones/{zone}", "targetId": "8", "targetLink": f"{self.url}{path.split(PROJECT + '/')[1]}",
                  "selfLink": f"{self.url}zones/{zone}/operations/{name}"}
        if group:
            answer["operationGroupId"] = group
        if error:
            answer |= {"error": {"errors": [error]}, "httpErrorStatusCode": 503, "httpErrorMessage": "SERVICE UNAVAILABLE"}
        with self.lock:
            self.operations[name] = answer
        return answer

    def group(self, query):
        with self.lock:
            return {"kind": "compute#operationList", "id": "o", "items": [
                o for o in self.operations.values() if o["operationType"] == "insert" and o.get("operationGroupId", "-") in query]}

    def watch(self):
        while True:
            time.sleep(0.2)
            with self.lock:
                over = []
                for name, instance in self.instances.items():
                    resource = instance["resource"]
                    if resource["status"] == "RUNNING" and instance["machine"].is_off():
                        instance["machine"].die()
                        resource["status"] = "TERMINATED"
                    if resource["status"] == "RUNNING" and time.monotonic() - instance["began"] > instance["seconds"] / self.speed:
                        over.append(name)
            self.end(over)

    # ---- the test's own questions

    def control(self, path, body):
        with self.lock:
            if path == "/_fault":
                self.faults.faults = json.loads(body)
            elif path == "/_asked":
                asked, self.asked = self.asked, []
                return "\n".join(asked)
            elif path == "/_machines":
                return "\n".join(f"{n} {i['machine'].address} {i['resource']['status']} {'spot' if i['machine'].metadata else 'on_demand'}"
                                 for n, i in self.instances.items())
            elif path == "/_instance":
                return json.dumps(next(iter(self.instances.values()))["asked"])
            elif path == "/_kill":
                self.instances[body]["machine"].die()
            elif path == "/_take":
                threading.Thread(target=self.take_back, args=body.split(), daemon=True).start()
            elif path == "/_speed":
                self.speed = float(body)
            elif path == "/_sleep":
                self.network.set("sleep_speed", body)
        return ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cloud = None

    def log_message(self, *args):
        pass

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if self.path.startswith("/_"):
            return self.send(200, "text/plain", self.cloud.control(self.path, body))
        try:
            if self.path.startswith("/batch/"):
                kind, text = self.batch(body)
                return self.send(200, kind, text)
            status, text = self.one(self.command, self.path, body)
            self.send(status, "application/json", text)
        except Lost:
            self.close_connection = True
            self.connection.shutdown(2)

    do_GET = do_POST = do_DELETE = answer

    def one(self, method, target, body):
        path, _, query = target.partition("?")
        try:
            return 200, json.dumps(self.cloud.call(method, path, query, body))
        except Refused as refused:
            return refused.status, json.dumps({"error": {
                "code": refused.status, "message": refused.message,
                "errors": [{"message": refused.message, "domain": "global", "reason": refused.code}]}})

    def batch(self, body):
        """Several calls in one: parts of multipart/mixed, each a request."""
        message = email.parser.Parser().parsestr(f"Content-Type: {self.headers['Content-Type']}\n\n{body}")
        text = ""
        for part in message.get_payload():
            head, _, inner = part.get_payload().replace("\r\n", "\n").partition("\n\n")
            method, target, _ = head.split("\n")[0].split(" ")
            status, answer = self.one(method, target, inner.strip())
            content_id = part["Content-ID"].replace("<", "<response-")
            text += (f"--answers\r\nContent-Type: application/http\r\nContent-ID: {content_id}\r\n\r\n"
                     f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n\r\n{answer}\r\n")
        return "multipart/mixed; boundary=answers", text + "--answers--\r\n"

    def send(self, status, kind, text):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


def main():
    network = Network(*sys.argv[1:4], "mg", 80)
    if network.problem:
        print("problem", network.problem, flush=True)
        return
    cloud = Cloud(network)
    Handler.cloud = cloud
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    cloud.url = f"http://127.0.0.1:{server.server_port}/compute/v1/projects/{PROJECT}/"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Thread(target=cloud.watch, daemon=True).start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    print("port", server.server_port, flush=True)
    stop.wait()
    cloud.end(list(cloud.instances))
    network.close()
    os._exit(0)


main()

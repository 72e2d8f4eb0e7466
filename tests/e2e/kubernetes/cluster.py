"""The state of a small cluster and its controllers: jobs make pods, pods find nodes and run.

All of it is guarded by `Cluster.lock`; one thread (`tick`) plays job controller, scheduler and
kubelet.
"""

import copy
import datetime
import threading
import time
import uuid

import pods
import schema

INDEX = "batch.kubernetes.io/job-completion-index"
ENDED = ("Succeeded", "Failed")


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def labels_match(obj, selector):
    """`selector`: "a=b,c" as in a URL."""
    labels = obj["metadata"].get("labels", {})
    for term in filter(None, selector.split(",")):
        name, _, value = term.replace("==", "=").partition("=")
        if name not in labels or (_ and labels[name] != value):
            return False
    return True


def requests_of(pod_spec):
    """What a pod asks for, as a quota counts it."""
    total = {"pods": 1.0}
    for container in pod_spec["containers"]:
        for key, value in container.get("resources", {}).get("requests", {}).items():
            total[key] = total.get(key, 0) + schema.amount(value)
    return total


class Cluster:
    def __init__(self, network, home, nodes):
        self.lock = threading.RLock()
        self.objects = {}  # (resource, namespace, name) -> object
        self.bad_images = set()
        self.containers = {}  # uid of a pod -> pods.Container
        self._network = network
        self._home = home
        self._deadlines = {}  # uid -> when it ends, or is deleted
        for number, node in enumerate(nodes, 1):
            self.add("nodes", "", node_object(f"node-{number}", node))

    # The store.

    def add(self, resource, namespace, obj, owner=None):
        meta = obj["metadata"]
        if namespace:
            meta["namespace"] = namespace
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = now()
        meta["resourceVersion"] = "1"
        if owner is not None:
            reference = {"kind": owner["kind"], "name": owner["metadata"]["name"]}
            reference |= {"apiVersion": owner["apiVersion"], "controller": True}
            meta["ownerReferences"] = [reference | {"uid": owner["metadata"]["uid"]}]
        self.objects[resource, namespace, meta["name"]] = obj
        return obj

    def list(self, resource, namespace=None):
        return [
            obj
            for (kind, where, _), obj in sorted(self.objects.items())
            if kind == resource and namespace in (None, where)
        ]

    def _owned(self, resource, owner):
        uid = owner["metadata"]["uid"]
        return [
            obj
            for obj in self.list(resource)
            if any(r["uid"] == uid for r in obj["metadata"].get("ownerReferences", []))
        ]

    def delete(self, resource, obj):
        """With everything that it owns; a pod gets its time to end."""
        meta = obj["metadata"]
        for kind in ("jobs", "services", "pods"):
            for owned in self._owned(kind, obj):
                self.delete(kind, owned)
        container = self.containers.get(meta["uid"])
        if resource == "pods" and container is not None and container.poll() is None:
            meta["deletionTimestamp"] = now()
            container.terminate(obj["spec"].get("terminationGracePeriodSeconds", 30))
            return
        if resource == "pods":
            self._remove_container(obj)
        self.objects.pop((resource, meta.get("namespace", ""), meta["name"]), None)

    def _remove_container(self, pod):
        container = self.containers.pop(pod["metadata"]["uid"], None)
        if container is not None:
            container.remove()

    def remove_all(self):
        for container in self.containers.values():
            container.remove()

    # The controllers.

    def run(self):
        while True:
            time.sleep(0.05)
            with self.lock:
                self.tick()

    def tick(self):
        for jobset in self.list("jobsets"):
            self._tick_jobset(jobset)
        for job in self.list("jobs"):
            self._tick_job(job)
        for pod in self.list("pods"):
            self._tick_pod(pod)
        for quota in self.list("resourcequotas"):
            used = self._used(quota["metadata"]["namespace"])
            quota["status"] = {
                "hard": quota["spec"]["hard"],
                "used": {key: str(used.get(key, 0)) for key in quota["spec"]["hard"]},
            }

    def _tick_jobset(self, jobset):
        spec, meta = jobset["spec"], jobset["metadata"]
        if not jobset.get("status"):
            jobset["status"] = {"conditions": []}
            for replicated in spec["replicatedJobs"]:
                job = {"apiVersion": "batch/v1", "kind": "Job", "status": {}}
                job |= copy.deepcopy(replicated["template"])
                job.setdefault("metadata", {})["name"] = f"{meta['name']}-{replicated['name']}-0"
                job["spec"]["template"]["spec"]["subdomain"] = meta["name"]
                self.add("jobs", meta["namespace"], job, owner=jobset)
            return
        ends = [c["type"] for j in self._owned("jobs", jobset) for c in conditions(j)]
        if conditions(jobset):
            self._expire("jobsets", jobset, spec)
        elif "Failed" in ends:
            end(jobset, "Failed", "FailedJobs", "jobset failed due to one or more job failures")
            for job in self._owned("jobs", jobset):
                if not conditions(job):  # Jobs that have ended stay, and say why.
                    self.delete("jobs", job)
        elif len(ends) == len(spec["replicatedJobs"]):
            end(jobset, "Completed", "AllJobsCompleted", "jobset completed successfully")

    def _tick_job(self, job):
        spec, meta, status = job["spec"], job["metadata"], job["status"]
        if conditions(job):
            return self._expire("jobs", job, spec)
        status.setdefault("startTime", now())
        deadline = self._deadlines.setdefault(
            meta["uid"], time.monotonic() + spec.get("activeDeadlineSeconds", 1e9)
        )
        mine = self._owned("pods", job)
        phases = [pod["status"]["phase"] for pod in mine]
        status["active"] = sum(phase not in ENDED for phase in phases)
        status["succeeded"], status["failed"] = phases.count("Succeeded"), phases.count("Failed")
        if time.monotonic() > deadline:
            return self._fail(job, mine, "DeadlineExceeded", "Job was active longer than specified")
        if status["failed"] > spec.get("backoffLimit", 6):
            return self._fail(job, mine, "BackoffLimitExceeded", "the specified backoff limit")
        if status["succeeded"] == spec["completions"]:
            return end(job, "Complete", "CompletionsReached", "")
        there = {pod["metadata"]["annotations"][INDEX] for pod in mine}
        for index in range(spec["completions"]):
            if str(index) not in there:
                self._make_pod(job, index)
        return None

    def _fail(self, job, mine, reason, message):
        end(job, "Failed", reason, message)
        for pod in mine:
            if pod["status"]["phase"] not in ENDED:
                self.delete("pods", pod)

    def _expire(self, resource, obj, spec):
        if "ttlSecondsAfterFinished" not in spec:
            return
        uid = "ttl " + obj["metadata"]["uid"]
        limit = self._deadlines.setdefault(uid, time.monotonic() + spec["ttlSecondsAfterFinished"])
        if time.monotonic() > limit:
            self.delete(resource, obj)

    def _used(self, namespace):
        used = {"count/jobs.batch": len(self.list("jobs", namespace))}
        for pod in self.list("pods", namespace):
            if pod["status"]["phase"] not in ENDED:
                for key, value in requests_of(pod["spec"]).items():
                    used[key] = used.get(key, 0) + value
                    if key != "pods":
                        used["requests." + key] = used.get("requests." + key, 0) + value
        return used

    def _make_pod(self, job, index):
        meta, template = job["metadata"], copy.deepcopy(job["spec"]["template"])
        namespace = meta["namespace"]
        name = f"{meta['name']}-{index}-{uuid.uuid4().hex[:5]}"
        wanted, used = requests_of(template["spec"]), self._used(namespace)
        wanted |= {"requests." + key: value for key, value in wanted.items()}
        for quota in self.list("resourcequotas", namespace):
            for key, hard in quota["spec"]["hard"].items():
                if used.get(key, 0) + wanted.get(key, 0) > schema.amount(hard):
                    text = f"exceeded quota: {quota['metadata']['name']}, requested: {key}="
                    text += f"{wanted[key]:g}, used: {key}={used.get(key, 0):g}, limited: {key}={hard}"
                    return self._event(job, f'pods "{name}" is forbidden: {text}')
        pod_meta = template.setdefault("metadata", {})
        pod_meta["name"] = name
        pod_meta.setdefault("annotations", {})[INDEX] = str(index)
        pod_meta.setdefault("labels", {})[INDEX] = str(index)
        pod_meta["labels"]["batch.kubernetes.io/job-name"] = meta["name"]
        template["spec"]["hostname"] = f"{meta['name']}-{index}"
        pod = {"apiVersion": "v1", "kind": "Pod", **template, "status": {"phase": "Pending"}}
        return self.add("pods", namespace, pod, owner=job)

    def _event(self, job, message):
        meta = job["metadata"]
        involved = {"kind": "Job", "name": meta["name"], "uid": meta["uid"]}
        event = {"apiVersion": "v1", "kind": "Event", "reason": "FailedCreate", "type": "Warning"}
        event |= {"message": "Error creating: " + message, "lastTimestamp": now()}
        event |= {"metadata": {"name": meta["name"]}}
        event["involvedObject"] = involved | {"namespace": meta["namespace"]}
        return self.add("events", meta["namespace"], event)

    def _tick_pod(self, pod):
        spec, meta, status = pod["spec"], pod["metadata"], pod["status"]
        container = self.containers.get(meta["uid"])
        if container is not None:
            code = container.poll()
            over = time.monotonic() > self._deadlines.get(meta["uid"], float("inf"))
            if code is None and over:
                status |= {"reason": "DeadlineExceeded", "message": "Pod was active too long"}
                container.terminate(spec.get("terminationGracePeriodSeconds", 30))
            if code is None:
                return
            self._remove_container(pod)
            code = 1 if over and code == 0 else code
            terminated = {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}
            status["phase"] = "Succeeded" if code == 0 else "Failed"
            status["containerStatuses"] = [container_status(spec, {"terminated": terminated})]
            if "deletionTimestamp" in meta:
                self.delete("pods", pod)
            return
        if status["phase"] != "Pending":
            return
        if "nodeName" not in spec:
            self._schedule(pod)
        if "nodeName" not in spec:
            return
        image = spec["containers"][0]["image"]
        if image in self.bad_images:
            waiting = {"reason": "ImagePullBackOff"}
            waiting["message"] = f'Back-off pulling image "{image}"'
            status["containerStatuses"] = [container_status(spec, {"waiting": waiting})]
            return
        first = spec["containers"][0]
        environment = {e["name"]: e.get("value", "") for e in first.get("env", [])}
        environment["JOB_COMPLETION_INDEX"] = meta["annotations"][INDEX]
        command = first.get("command", []) + first.get("args", [])
        container = pods.Container(
            self._network, spec["hostname"], self._home, command, environment
        )
        self.containers[meta["uid"]] = container
        if "activeDeadlineSeconds" in spec:
            self._deadlines[meta["uid"]] = time.monotonic() + spec["activeDeadlineSeconds"]
        status["phase"] = "Running"
        status["podIP"] = container.address
        status["containerStatuses"] = [container_status(spec, {"running": {"startedAt": now()}})]

    def _schedule(self, pod):
        wanted, lacking = requests_of(pod["spec"]), []
        for node in self.list("nodes"):
            problem = self._misfit(pod, node, wanted)
            if problem is None:
                pod["spec"]["nodeName"] = node["metadata"]["name"]
                pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "True"}]
                return
            lacking.append("1 " + problem)
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        condition["message"] = f"0/{len(lacking)} nodes are available: {', '.join(lacking)}."
        pod["status"]["conditions"] = [condition]

    def _misfit(self, pod, node, wanted):
        """Why the pod cannot be on the node; None when it can."""
        labels = node["metadata"].get("labels", {})
        for key, value in pod["spec"].get("nodeSelector", {}).items():
            if labels.get(key) != value:
                return "node(s) didn't match Pod's node affinity/selector"
        for taint in node["spec"].get("taints", []):
            if not any(tolerates(t, taint) for t in pod["spec"].get("tolerations", [])):
                return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
        free = {k: schema.amount(v) for k, v in node["status"]["allocatable"].items()}
        for other in self.list("pods"):
            if other["spec"].get("nodeName") == node["metadata"]["name"]:
                if other["status"]["phase"] not in ENDED:
                    for key, value in requests_of(other["spec"]).items():
                        free[key] = free.get(key, 0) - value
        for key, value in wanted.items():
            if value > free.get(key, 0):
                return f"Insufficient {key}"
        return None


def tolerates(toleration, taint):
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key", taint["key"]) == taint["key"]
    same_value = toleration.get("value", "") == taint.get("value", "")
    return toleration.get("key") == taint["key"] and same_value


def conditions(obj):
    """Those of a job or a set of jobs that has ended."""
    return obj.get("status", {}).get("conditions", [])


def end(obj, kind, reason, message):
    condition = {"type": kind, "status": "True", "reason": reason, "message": message}
    obj["status"]["conditions"] = [condition | {"lastTransitionTime": now()}]


def container_status(spec, state):
    first = spec["containers"][0]
    status = {"name": first["name"], "image": first["image"], "imageID": "", "restartCount": 0}
    return status | {"ready": "running" in state, "state": state}


def node_object(name, amounts):
    """`amounts`: "cpu=4,memory=16Gi", and labels as "label:zone=a"."""
    parts = dict(part.split("=") for part in amounts.split(","))
    labels = {k[6:]: v for k, v in parts.items() if k.startswith("label:")}
    allocatable = {k: v for k, v in parts.items() if not k.startswith("label:")} | {"pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {"allocatable": allocatable, "capacity": allocatable},
    }

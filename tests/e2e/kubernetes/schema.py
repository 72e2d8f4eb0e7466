"""Whether an object is what the API takes: fields and types, then the rules that Muster must keep.

The fields are those of batch/v1, core/v1 (Kubernetes 1.32) and jobset.x-k8s.io/v1alpha2 that a
training job could want, written down from the published API; others are refused, as by a server
that is asked for strict validation. A type is a Python type, [type of elements], {"": type of
values} or the name of a row.
"""

import re

META = {"name": str, "namespace": str, "labels": {"": str}, "annotations": {"": str}}
QUANTITY = "quantity"

TYPES = {
    "Meta": META,
    "Job": {"apiVersion": str, "kind": str, "metadata": "Meta", "spec": "JobSpec"},
    "JobSpec": {
        "parallelism": int,
        "completions": int,
        "activeDeadlineSeconds": int,
        "backoffLimit": int,
        "backoffLimitPerIndex": int,
        "maxFailedIndexes": int,
        "completionMode": str,
        "manualSelector": bool,
        "suspend": bool,
        "ttlSecondsAfterFinished": int,
        "podReplacementPolicy": str,
        "template": "PodTemplate",
    },
    "PodTemplate": {"metadata": "Meta", "spec": "PodSpec"},
    "PodSpec": {
        "containers": ["Container"],
        "initContainers": ["Container"],
        "restartPolicy": str,
        "terminationGracePeriodSeconds": int,
        "activeDeadlineSeconds": int,
        "dnsPolicy": str,
        "nodeSelector": {"": str},
        "serviceAccountName": str,
        "automountServiceAccountToken": bool,
        "enableServiceLinks": bool,
        "hostNetwork": bool,
        "hostname": str,
        "subdomain": str,
        "priorityClassName": str,
        "schedulerName": str,
        "setHostnameAsFQDN": bool,
        "tolerations": ["Toleration"],
        "imagePullSecrets": ["Reference"],
        "securityContext": "PodSecurity",
        "volumes": ["Volume"],
    },
    "Reference": {"name": str},
    "Container": {
        "name": str,
        "image": str,
        "imagePullPolicy": str,
        "command": [str],
        "args": [str],
        "workingDir": str,
        "env": ["EnvVar"],
        "resources": "Resources",
        "securityContext": "Security",
        "stdin": bool,
        "tty": bool,
        "volumeMounts": ["VolumeMount"],
    },
    "EnvVar": {"name": str, "value": str},
    "Resources": {"limits": {"": QUANTITY}, "requests": {"": QUANTITY}},
    "Toleration": {
        "key": str,
        "operator": str,
        "value": str,
        "effect": str,
        "tolerationSeconds": int,
    },
    "PodSecurity": {
        "runAsUser": int,
        "runAsGroup": int,
        "runAsNonRoot": bool,
        "fsGroup": int,
        "seccompProfile": "Seccomp",
    },
    "Security": {
        "allowPrivilegeEscalation": bool,
        "privileged": bool,
        "readOnlyRootFilesystem": bool,
        "runAsUser": int,
        "runAsNonRoot": bool,
        "seccompProfile": "Seccomp",
    },
    "Seccomp": {"type": str, "localhostProfile": str},
    "Volume": {"name": str, "emptyDir": "EmptyDir", "persistentVolumeClaim": "Claim"},
    "EmptyDir": {"medium": str, "sizeLimit": QUANTITY},
    "Claim": {"claimName": str, "readOnly": bool},
    "VolumeMount": {"name": str, "mountPath": str, "readOnly": bool, "subPath": str},
    "Service": {"apiVersion": str, "kind": str, "metadata": "Meta", "spec": "ServiceSpec"},
    "ServiceSpec": {
        "clusterIP": str,
        "selector": {"": str},
        "publishNotReadyAddresses": bool,
        "type": str,
        "ports": ["ServicePort"],
    },
    "ServicePort": {"name": str, "port": int, "protocol": str},
    "JobSet": {"apiVersion": str, "kind": str, "metadata": "Meta", "spec": "JobSetSpec"},
    "JobSetSpec": {
        "replicatedJobs": ["ReplicatedJob"],
        "network": "JobSetNetwork",
        "successPolicy": "SuccessPolicy",
        "failurePolicy": "FailurePolicy",
        "suspend": bool,
        "ttlSecondsAfterFinished": int,
    },
    "ReplicatedJob": {"name": str, "replicas": int, "template": "JobTemplate"},
    "JobTemplate": {"metadata": "Meta", "spec": "JobSpec"},
    "JobSetNetwork": {
        "enableDNSHostnames": bool,
        "subdomain": str,
        "publishNotReadyAddresses": bool,
    },
    "SuccessPolicy": {"operator": str, "targetReplicatedJobs": [str]},
    "FailurePolicy": {"maxRestarts": int},
}

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
SERVICE_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?\Z")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")
AMOUNT = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|[MGTPE]|[KMGTPE]i|e[0-9]+)?\Z")
SUFFIXES = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
SUFFIXES |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def amount(text):
    """A quantity as a number."""
    for suffix in ("Ki", "Mi", "Gi", "Ti", "m", "k", "M", "G", "T"):
        if str(text).endswith(suffix):
            return float(text[: -len(suffix)]) * SUFFIXES[suffix]
    return float(text)


def _types(value, wanted, path, problems):
    if isinstance(wanted, str) and wanted != QUANTITY:
        wanted = TYPES[wanted]
    if wanted == QUANTITY:
        if not AMOUNT.match(str(value)):
            problems.append(f'{path}: "{value}" is no quantity')
    elif isinstance(wanted, list):
        if not isinstance(value, list):
            problems.append(f"{path}: expected array")
            return
        for i, element in enumerate(value):
            _types(element, wanted[0], f"{path}[{i}]", problems)
    elif isinstance(wanted, dict):
        if not isinstance(value, dict):
            problems.append(f"{path}: expected object")
            return
        for name, element in value.items():
            kind = wanted.get("", wanted.get(name))
            if kind is None:
                problems.append(f'unknown field "{path}.{name}"')
            else:
                _types(element, kind, f"{path}.{name}", problems)
    elif type(value) is not wanted:
        problems.append(f"{path}: expected {wanted.__name__}, is {value!r}")


def _meta(meta, problems):
    for key, value in meta.get("labels", {}).items():
        if not LABEL_VALUE.match(value):
            problems.append(f'metadata.labels: Invalid value: "{value}" of {key}')


def _job(name, spec, problems):
    template = spec.get("template", {})
    pod = template.get("spec", {})
    if pod.get("restartPolicy") not in ("Never", "OnFailure"):
        problems.append('spec.template.spec.restartPolicy: Required value: "OnFailure", "Never"')
    if not pod.get("containers"):
        problems.append("spec.template.spec.containers: Required value")
    if spec.get("completionMode") == "Indexed":
        if "completions" not in spec:
            problems.append("spec.completions: Required value: when completion mode is Indexed")
        # The longest pod's host name.
        host = f"{name}-{spec.get('completions', 1) - 1}"
        if not LABEL.match(host):
            problems.append(f'metadata.name: Invalid value: "{host}": will not be a host name')
    for container in pod.get("containers", []):
        for field in ("name", "image"):
            if not container.get(field):
                problems.append(f"spec.template.spec.containers[0].{field}: Required value")
        resources = container.get("resources", {})
        for key, value in resources.get("requests", {}).items():
            limit = resources.get("limits", {}).get(key)
            if limit is not None and amount(value) > amount(limit):
                problems.append(f"requests: must be less than or equal to {key} limit")
    _meta(template.get("metadata", {}), problems)


def check(obj):
    """Everything that is wrong with it: (strict decoding errors, invalid values)."""
    unknown, invalid = [], []
    kind = obj.get("kind")
    _types(obj, kind, kind, unknown)
    if unknown:
        return unknown, []
    meta, spec = obj["metadata"], obj["spec"]
    _meta(meta, invalid)
    if not (SERVICE_LABEL if kind == "Service" else LABEL).match(meta["name"]):
        invalid.append(f'metadata.name: Invalid value: "{meta["name"]}": a DNS label')
    if kind == "Job":
        _job(meta["name"], spec, invalid)
    for replicated in spec.get("replicatedJobs", []):
        name = f"{meta['name']}-{replicated['name']}-{replicated.get('replicas', 1) - 1}"
        _job(name, replicated["template"]["spec"], invalid)
    return [], invalid

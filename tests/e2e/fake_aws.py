"""An EC2 for tests: moto's, with what it lacks in front of it, and a real machine behind each instance.

In front: client tokens (a repeated call gives the same instances; other parameters are refused), quotas, and faults that a
test asks for. Behind: a network namespace with an address, an sshd and a home of its own, in which the user data runs as a first
script; `shutdown` there ends the instance.

    fake_aws.py FOLDER BUILD_ID PROGRAMS     prints "port N" and where `aws` is, and serves until SIGTERM

    POST /_fault      [{"action": "RunInstances", "times": 1, "code": "…", "status": 400}]   fails like that
                      {"skip": n}: not the first n;  {"lose": true}: does it, and closes the connection without an answer;  {"sleep": s}: answers later
    GET  /_asked      the actions that were asked for, a line each
    GET  /_machines   id, address and state of each instance, a line each
    POST /_kill       an instance's id: the machine dies without a word, as hardware does
    POST /_speed      so many times faster than they say `shutdown -P +minutes` waits
"""

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid

from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

FOLDER, BUILD_ID, PROGRAMS = sys.argv[1:4]
PID = os.getpid()
BRIDGE = f"ma{PID}"
SUBNET = 1 + PID % 250
QUOTAS = {"L-1216C47A": 640, "L-DB2E81BA": 8, "L-417A185B": 0}


def sh(script):
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True)


class Machine:
    """A namespace with its own address, home and sshd."""

    count = 0

    def __init__(self, instance, script):
        Machine.count += 1
        self.name = f"{BRIDGE}n{Machine.count}"
        self.address = f"10.79.{SUBNET}.{Machine.count % 250 + 1}"
        self.folder = f"{FOLDER}/{instance}"
        os.makedirs(f"{self.folder}/bin")
        off = f"{self.folder}/off"
        with open(f"{self.folder}/first_script", "w") as file:
            file.write(script)
        # `shutdown -P +120`, the last one counts; `shutdown -c` takes it back.
        with open(f"{self.folder}/bin/shutdown", "w") as file:
            file.write(f"""#!/bin/sh
echo "$@" >>{self.folder}/shutdowns
[ -f {self.folder}/timer ] && kill $(cat {self.folder}/timer) 2>/dev/null
[ "$1" = -c ] && exit
seconds=$(awk "BEGIN {{ print 60 * ${{2#+}} / $(cat {FOLDER}/speed) }}")
setsid sh -c "echo \\$\\$ >{self.folder}/timer; sleep $seconds; touch {off}" >/dev/null 2>&1 &
""")
        os.chmod(f"{self.folder}/bin/shutdown", 0o755)
        made = sh(f"""set -e
ip netns add {self.name}; ip link add {self.name} type veth peer name eth0 netns {self.name}
ip link set {self.name} master {BRIDGE}; ip link set {self.name} up
ip -n {self.name} addr add {self.address}/24 dev eth0; ip -n {self.name} link set eth0 up; ip -n {self.name} link set lo up
""")
        assert made.returncode == 0, made.stderr
        # The image has the programs of this build.
        inside = f"""mount -t tmpfs none /root
mkdir -p /root/.muster/builds/{BUILD_ID}; ln -s {PROGRAMS} /root/.muster/builds/{BUILD_ID}/bin
PATH={self.folder}/bin:$PATH sh {self.folder}/first_script
exec /usr/sbin/sshd -D -f {FOLDER}/sshd_config -o ListenAddress={self.address} -E {self.folder}/sshd.log"""
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, "unshare", "-m", "--propagation", "private", "sh", "-c", inside],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self):
        sh(f"ip netns pids {self.name} | xargs -r kill -9; ip netns del {self.name}; ip link del {self.name}")
        self.process.wait()


class Front:
    def __init__(self):
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.lock = threading.Lock()
        self.tokens, self.machines, self.faults, self.asked = {}, {}, [], []

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        path = environ["PATH_INFO"]
        if path.startswith("/_"):
            return self.control(path, body, start_response)
        action, form = self.action(environ, body)
        fault = self.take_fault(action)
        if fault and "sleep" in fault:
            time.sleep(fault["sleep"])
        elif fault and not fault.get("lose"):
            return self.fail(fault["code"], fault.get("status", 400), start_response)
        if action == "RunInstances" and form.get("DryRun", ["false"])[0] != "true":
            answer = self.run(environ, form, body)
        elif action == "GetServiceQuota":
            return self.quota(json.loads(body), start_response)
        else:
            answer = self.ask(environ, body)
            if action == "TerminateInstances" and answer[0].startswith("200"):
                self.terminate([v[0] for k, v in form.items() if k.startswith("InstanceId")])
        if fault and fault.get("lose"):
            environ["werkzeug.socket"].shutdown(2)
        status, headers, text = answer
        start_response(status, headers)
        return [text]

    def action(self, environ, body):
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if target:
            action, form = target.split(".")[-1], {}
        else:
            form = urllib.parse.parse_qs(body.decode(), keep_blank_values=True)
            action = form.get("Action", ["?"])[0]
        with self.lock:
            self.asked.append(action)
        return action, form

    def take_fault(self, action):
        with self.lock:
            for fault in self.faults:
                if fault["action"] != action:
                    continue
                if fault.get("skip", 0) > 0:
                    fault["skip"] -= 1
                elif fault.get("times", 1) > 0:
                    fault["times"] = fault.get("times", 1) - 1
                    return fault
        return None

    def fail(self, code, status, start_response):
        text = (f"<?xml version='1.0'?><Response><Errors><Error><Code>{code}</Code><Message>as the test says"
                f"</Message></Error></Errors><RequestID>{uuid.uuid4()}</RequestID></Response>").encode()
        start_response(f"{status} X", [("Content-Type", "text/xml"), ("Content-Length", str(len(text)))])
        return [text]

    def ask(self, environ, body):
        """What moto answers: status, headers, text."""
        kept = []
        environ = dict(environ, **{"wsgi.input": io.BytesIO(body)})
        text = b"".join(self.moto(environ, lambda status, headers, exc_info=None: kept.append((status, headers))))
        return kept[0][0], kept[0][1], text

    def run(self, environ, form, body):
        token = form.get("ClientToken", [""])[0]
        what = {k: v for k, v in form.items()}
        with self.lock:
            known = self.tokens.get(token) if token else None
            if known:
                return known[1] if known[0] == what else self.error("IdempotentParameterMismatch")
            answer = self.ask(environ, body)
            if not answer[0].startswith("200"):
                return answer
            self.tokens[token] = (what, answer)
            script = base64.b64decode(form["UserData"][0]).decode()
            region = re.search(r"/\d{8}/([a-z0-9-]+)/ec2/", environ.get("HTTP_AUTHORIZATION", ""))[1]
            for instance in dict.fromkeys(re.findall(rb"<instanceId>(i-[0-9a-f]+)</instanceId>", answer[2])):
                self.boot(region, instance.decode(), script)
        return answer

    def error(self, code):
        kept = []
        text = self.fail(code, 400, lambda status, headers: kept.append((status, headers)))[0]
        return kept[0][0], kept[0][1], text

    def boot(self, region, instance_id, script):
        instance = ec2_backends[DEFAULT_ACCOUNT_ID][region].get_instance(instance_id)
        machine = Machine(instance_id, script)
        instance.nics[0].private_ip_address = instance.nics[0].public_ip = machine.address
        self.machines[instance_id] = (machine, region)

    def terminate(self, ids):
        with self.lock:
            gone = [self.machines.pop(i) for i in ids if i in self.machines]
        for machine, _ in gone:
            machine.kill()

    def watch(self):
        """Machines that turn themselves off are terminated, as run-instances was told."""
        while True:
            time.sleep(0.2)
            with self.lock:
                off = [(i, r) for i, (m, r) in self.machines.items() if os.path.exists(f"{m.folder}/off")]
            for instance, region in off:
                ec2_backends[DEFAULT_ACCOUNT_ID][region].terminate_instances([instance])
                self.terminate([instance])

    def quota(self, form, start_response):
        value = QUOTAS.get(form["QuotaCode"])
        if value is None:
            return self.fail("NoSuchResourceException", 400, start_response)
        text = json.dumps({"Quota": {"QuotaCode": form["QuotaCode"], "Value": value}}).encode()
        start_response("200 OK", [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(text)))])
        return [text]

    def control(self, path, body, start_response):
        text = ""
        if path == "/_fault":
            with self.lock:
                self.faults = json.loads(body)
        elif path == "/_asked":
            with self.lock:
                text = "\n".join(self.asked)
                self.asked = []
        elif path == "/_machines":
            with self.lock:
                text = "\n".join(f"{i} {m.address} {m.name}" for i, (m, _) in self.machines.items())
        elif path == "/_kill":
            with self.lock:
                machine = self.machines[body.decode()][0]
            sh(f"ip link set {machine.name} down; ip netns pids {machine.name} | xargs -r kill -9")
        elif path == "/_speed":
            with open(f"{FOLDER}/speed", "w") as file:
                file.write(body.decode())
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [text.encode()]


class Quiet(WSGIRequestHandler):
    def log(self, *args):
        pass


def main():
    # What a test that was killed has left.
    sh("""for ns in $(ip netns list | grep -o '^ma[0-9]*n[0-9]*'); do
  pid=${ns#ma}; pid=${pid%n*}
  [ -d /proc/$pid ] || { ip netns pids $ns | xargs -r kill -9; ip netns del $ns; ip link del ma$pid; }
done""")
    made = sh(f"""set -e
for tool in ip unshare ssh-keygen /usr/sbin/sshd; do command -v $tool >/dev/null || {{ echo "needs $tool" >&2; exit 1; }}; done
mkdir -p {FOLDER} /run/sshd; cd {FOLDER}; echo 1 >speed
ssh-keygen -q -t ed25519 -N '' -f host_key
printf '%s\\n' 'HostKey {FOLDER}/host_key' 'UsePAM no' 'StrictModes no' 'PidFile none' 'PasswordAuthentication no' \\
  'PermitRootLogin yes' 'MaxStartups 100' >sshd_config
ip link add {BRIDGE} type bridge; ip addr add 10.79.{SUBNET}.254/24 dev {BRIDGE}; ip link set {BRIDGE} up""")
    if made.returncode != 0:
        print("problem", made.stderr.strip().replace("\n", "; "), flush=True)
        return
    front = Front()
    server = make_server("127.0.0.1", 0, front, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Thread(target=front.watch, daemon=True).start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    own = f"{sys.prefix}/bin/aws"  # beside this Python's moto, without the detour that a shim takes
    aws = own if os.access(own, os.X_OK) else shutil.which("aws")
    print("port", server.server_port, "aws", aws, flush=True)
    stop.wait()
    front.terminate(list(front.machines))
    sh(f"ip link del {BRIDGE}")
    os._exit(0)


main()

"""An EC2 for tests: moto's, with what it lacks in front of it, and a real machine behind each instance.

In front: client tokens (a repeated call gives the same instances; other parameters are refused), quotas, and faults that a
test asks for. Behind: fake_machines.Machine, in which the user data runs as a first script; `shutdown` there ends the instance.

    fake_aws.py FOLDER BUILD_ID PROGRAMS     prints "port N" and where `aws` is, and serves until SIGTERM

    POST /_fault      [{"action": "RunInstances", "times": 1, "code": "…", "status": 400}]   fails like that
                      {"skip": n}: not the first n;  {"lose": true}: does it, and closes the connection without an answer;  {"sleep": s}: answers later
                      {"spot": true}: of calls for spot machines alone
    POST /_take       "ID S": the spot machine hears that it is taken back in S seconds, and is; without S at once, and hears nothing
    POST /_price      "ZONE PRICE": what spot machines cost there from now on
    GET  /_asked      the actions that were asked for, a line each
    GET  /_machines   id, address, name, seconds slept, and whether it is spot, of each instance, a line each
    GET  /_at_start   what cloud-init runs at each start on the disks that there were, a line each
    POST /_kill       an instance's id: the machine dies without a word, as hardware does
    POST /_restart    an instance's id: its system starts again, and with it what cloud-init starts each time
    GET  /_schedules  name, time and target of each entry of EventBridge Scheduler, a line each; moto keeps them, and carries none out
    POST /_link       "ID up" or "ID down": its network
    POST /_speed      so many times faster than they say `shutdown -P +minutes` waits
    POST /_driver     what nvidia-smi says on machines
    POST /_sleep      so many times faster than it says the first script's `sleep` does
"""

import base64
import glob
import io
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
import urllib.parse
import uuid

from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.scheduler.models import scheduler_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from fake_machines import Faults, Machine, Network

FOLDER, BUILD_ID, PROGRAMS = sys.argv[1:4]
REGIONS = ("us-east-1", "us-east-2")
QUOTAS = {"L-1216C47A": 640, "L-34B43A08": 640, "L-DB2E81BA": 8, "L-417A185B": 0}


# What machines cost an hour on demand, as the price list tells it.
PRICES = {
    "m6i.xlarge": {"us-east-1": 0.192, "us-east-2": 0.18, "eu-central-1": 0.23},
    "c6i.4xlarge": {"us-east-1": 0.68, "us-east-2": 0.66, "eu-central-1": 0.776},
    "r6i.2xlarge": {"us-east-1": 0.504, "us-east-2": 0.5, "eu-central-1": 0.608},
}


class Front:
    def __init__(self, network):
        self.network, self.faults = network, Faults()
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.lock = threading.Lock()
        self.tokens, self.machines, self.asked, self.prices = {}, {}, [], []
        for zone, price in (("us-east-1a", 0.08), ("us-east-1b", 0.06), ("us-east-1c", 0.07)):
            self.price(zone, price, time.time() - 7200)

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        path = environ["PATH_INFO"]
        if path.startswith("/_"):
            return self.control(path, body, start_response)
        action, form = self.action(environ, body)
        with self.lock:
            fault = self.faults.take(action, spot="InstanceMarketOptions.MarketType" in form)
        if fault and "sleep" in fault:
            time.sleep(fault["sleep"])
        elif fault and not fault.get("lose"):
            return self.fail(fault["code"], fault.get("status", 400), start_response, as_json=action.endswith(("Schedule", "Schedules")))
        if action == "RunInstances" and form.get("DryRun", ["false"])[0] != "true":
            answer = self.run(environ, form, body)
        elif action == "DescribeSpotPriceHistory":
            answer = self.price_history(form)
        elif action == "GetServiceQuota":
            return self.quota(json.loads(body), start_response)
        elif action == "GetProducts":
            return self.products(json.loads(body), start_response)
        else:
            if action == "CreateImage":  # moto knows no tags of snapshots
                snapshots = {k.rsplit(".", 1)[0] for k, v in form.items() if k.endswith(".ResourceType") and v == ["snapshot"]}
                body = urllib.parse.urlencode([(k, v[0]) for k, v in form.items() if not k.startswith(tuple(s + "." for s in snapshots))]).encode()
                environ = dict(environ, CONTENT_LENGTH=str(len(body)))
            answer = self.ask(environ, body)
            if action == "CreateImage" and answer[0].startswith("200"):
                self.tag_snapshot(environ, form, re.search(rb"ami-[0-9a-f]+", answer[2])[0].decode())
            if action == "TerminateInstances" and answer[0].startswith("200"):
                self.terminate([v[0] for k, v in form.items() if k.startswith("InstanceId")])
            if action == "StopInstances" and answer[0].startswith("200"):
                with self.lock:
                    for machine in [self.machines[v[0]][0] for k, v in form.items() if k.startswith("InstanceId")]:
                        machine.die()
        if fault and fault.get("lose"):
            environ["werkzeug.socket"].shutdown(2)
        status, headers, text = answer
        start_response(status, headers)
        return [text]

    def tag_snapshot(self, environ, form, image):
        of = [k.rsplit(".", 1)[0] for k, v in form.items() if k.endswith(".ResourceType") and v == ["snapshot"]]
        tags = {v[0]: form[k.removesuffix("Key") + "Value"][0] for k, v in form.items() if of and k.startswith(of[0] + ".") and k.endswith(".Key")}
        ec2_backends[DEFAULT_ACCOUNT_ID][self.region(environ)].amis[image].ebs_snapshot.add_tags(tags)

    def region(self, environ):
        return re.search(r"/\d{8}/([a-z0-9-]+)/ec2/", environ.get("HTTP_AUTHORIZATION", ""))[1]

    def action(self, environ, body):
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if target:
            action, form = target.split(".")[-1], {}
        elif environ["PATH_INFO"].startswith("/schedules"):
            action, form = {"POST": "CreateSchedule", "GET": "ListSchedules", "DELETE": "DeleteSchedule"}[environ["REQUEST_METHOD"]], {}
        else:
            form = urllib.parse.parse_qs(body.decode(), keep_blank_values=True)
            action = form.get("Action", ["?"])[0]
        with self.lock:
            self.asked.append(action)
        return action, form

    def fail(self, code, status, start_response, as_json=False):
        if as_json:
            text = json.dumps({"Message": "as the test says"}).encode()
            start_response(f"{status} X", [("Content-Type", "application/json"), ("x-amzn-ErrorType", code), ("Content-Length", str(len(text)))])
            return [text]
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
            region = self.region(environ)
            spot = "InstanceMarketOptions.MarketType" in form
            for instance in dict.fromkeys(re.findall(rb"<instanceId>(i-[0-9a-f]+)</instanceId>", answer[2])):
                self.boot(region, instance.decode(), script, spot)
        return answer

    def error(self, code):
        kept = []
        text = self.fail(code, 400, lambda status, headers: kept.append((status, headers)))[0]
        return kept[0][0], kept[0][1], text

    def price_history(self, form):
        types = [v[0] for k, v in form.items() if k.startswith("InstanceType")]
        with self.lock:
            items = "".join(
                f"<item><instanceType>{t}</instanceType><productDescription>Linux/UNIX</productDescription><spotPrice>{price}</spotPrice>"
                f"<timestamp>{at}</timestamp><availabilityZone>{zone}</availabilityZone></item>"
                for t in types for zone, at, price in self.prices)
        text = f"<?xml version='1.0'?><DescribeSpotPriceHistoryResponse><spotPriceHistorySet>{items}</spotPriceHistorySet><nextToken/></DescribeSpotPriceHistoryResponse>"
        return "200 OK", [("Content-Type", "text/xml"), ("Content-Length", str(len(text)))], text.encode()

    def price(self, zone, price, at=None):
        self.prices.append((zone, time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at)), price))

    def take_back(self, instance_id, seconds=None):
        with self.lock:
            machine, region = self.machines[instance_id]
        if seconds is not None:
            machine.give_notice(float(seconds))
            time.sleep(float(seconds))
        ec2_backends[DEFAULT_ACCOUNT_ID][region].terminate_instances([instance_id])
        self.terminate([instance_id])

    def boot(self, region, instance_id, script, spot):
        instance = ec2_backends[DEFAULT_ACCOUNT_ID][region].get_instance(instance_id)
        machine = Machine(self.network, instance_id, script, spot)
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
                off = [(i, r) for i, (m, r) in self.machines.items() if m.is_off()]
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

    def products(self, form, start_response):
        """Each product is a text that is JSON itself, as in the real list."""
        wanted = {f["Field"]: (f["Type"], f["Value"]) for f in form["Filters"]}
        assert form["ServiceCode"] == "AmazonEC2" and wanted["operatingSystem"] == ("TERM_MATCH", "Linux"), form
        kind, types = wanted["instanceType"]
        types = types.split(",") if kind == "ANY_OF" else [types]
        products = [json.dumps({
            "product": {"productFamily": "Compute Instance", "sku": f"{t}{region}",
                        "attributes": {"instanceType": t, "regionCode": region, "locationType": "AWS Region", "operatingSystem": "Linux"}},
            "serviceCode": "AmazonEC2",
            "terms": {"OnDemand": {"S.J": {"priceDimensions": {"S.J.6": {"unit": "Hrs", "pricePerUnit": {"USD": f"{usd:.10f}"}}}}}}})
            for t in types for region, usd in PRICES.get(t, {}).items()]
        text = json.dumps({"FormatVersion": "aws_v1", "PriceList": products}).encode()
        start_response("200 OK", [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(text)))])
        return [text]

    def control(self, path, body, start_response):
        text = ""
        if path == "/_fault":
            with self.lock:
                self.faults.faults = json.loads(body)
        elif path == "/_asked":
            with self.lock:
                text = "\n".join(self.asked)
                self.asked = []
        elif path == "/_machines":
            with self.lock:
                text = "\n".join(f"{i} {m.address} {m.name} {m.slept()} {'spot' if m.metadata else 'on_demand'}" for i, (m, _) in self.machines.items())
        elif path == "/_kill":
            with self.lock:
                machine = self.machines[body.decode()][0]
            machine.die()
        elif path == "/_link":
            instance, state = body.decode().split()
            with self.lock:
                machine = self.machines[instance][0]
            machine.set_link(state)
        elif path == "/_restart":
            with self.lock:
                machine = self.machines[body.decode()][0]
            machine.restart()
        elif path == "/_schedules":
            text = "\n".join(f"{s.name} {s.schedule_expression} {s.action_after_completion} {json.dumps(s.target)}"
                             for region in REGIONS for s in scheduler_backends[DEFAULT_ACCOUNT_ID][region].schedule_groups["default"].schedules.values())
        elif path == "/_at_start":
            text = "\n".join(glob.glob(f"{FOLDER}/i-*/var_lib/cloud/scripts/per-boot/*"))
        elif path == "/_take":
            threading.Thread(target=self.take_back, args=body.decode().split(), daemon=True).start()
        elif path == "/_price":
            with self.lock:
                self.price(*body.decode().split())
        elif path == "/_speed":
            self.network.set("speed", body.decode())
        elif path == "/_driver":
            self.network.set("driver", body.decode())
        elif path == "/_sleep":
            self.network.set("sleep_speed", body.decode())
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [text.encode()]


class Quiet(WSGIRequestHandler):
    def log(self, *args):
        pass


def main():
    network = Network(FOLDER, BUILD_ID, PROGRAMS, "ma", 79)
    if network.problem:
        print("problem", network.problem, flush=True)
        return
    front = Front(network)
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
    network.close()
    os._exit(0)


main()

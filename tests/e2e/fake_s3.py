"""An S3 for tests: moto's, with faults in front of it.

usage: fake_s3.py BUCKET...     prints "port N" and where `aws` is, serves until SIGTERM.

Beside S3: /_objects lists "bucket/name size" by line; /_forbid?on=1 has all refused, until on=0.
"""

import os
import shutil
import signal
import sys
import threading

from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import WSGIRequestHandler, make_server

FORBIDDEN = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class Quiet(WSGIRequestHandler):
    def log_request(self, *_):
        pass


class Front:
    def __init__(self, buckets):
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.buckets = buckets
        self.forbidden = False

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/_objects":
            text = "".join(
                f"{bucket.name}/{name} {key.size}\n"
                for bucket in self.backend().buckets.values()
                for name, key in sorted(bucket.keys.items())
            ).encode()
            start_response("200 OK", [("Content-Length", str(len(text)))])
            return [text]
        if path == "/_forbid":
            self.forbidden = environ["QUERY_STRING"] == "on=1"
            start_response("200 OK", [("Content-Length", "0")])
            return [b""]
        if self.forbidden:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("403 Forbidden", [("Content-Type", "text/xml"), ("Content-Length", str(len(FORBIDDEN)))])
            return [FORBIDDEN]
        return self.moto(environ, start_response)

    @staticmethod
    def backend():
        return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]


def main():
    front = Front(sys.argv[1:])
    for bucket in sys.argv[1:]:
        Front.backend().create_bucket(bucket, "us-east-1")
    server = make_server("127.0.0.1", 0, front, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    own = f"{sys.prefix}/bin/aws"  # beside this Python's moto, without the detour that a shim takes
    aws = own if os.access(own, os.X_OK) else shutil.which("aws")
    print("port", server.server_port, "aws", aws, flush=True)
    stop.wait()
    os._exit(0)


main()

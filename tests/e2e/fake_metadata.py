"""The metadata service of a machine that a test's cloud may take back: EC2's with its tokens, and Compute Engine's.

    fake_metadata.py FILE     serves at 169.254.169.254 in the machine's namespace; there is a notice once FILE is there, and FILE is what EC2 says
"""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "a-token"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def answer(self, status, text=""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self):
        asked = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self.answer(200, TOKEN) if asked else self.answer(400)

    def do_GET(self):
        notice = os.path.exists(sys.argv[1])
        if self.path == "/computeMetadata/v1/instance/preempted":
            self.answer(200, "TRUE" if notice else "FALSE") if self.headers["Metadata-Flavor"] == "Google" else self.answer(403)
        elif self.path == "/latest/meta-data/spot/instance-action" and self.headers["X-aws-ec2-metadata-token"] != TOKEN:
            self.answer(401)
        elif self.path == "/latest/meta-data/spot/instance-action" and notice:
            with open(sys.argv[1]) as file:
                self.answer(200, file.read())
        else:
            self.answer(404)


ThreadingHTTPServer(("169.254.169.254", 80), Handler).serve_forever()

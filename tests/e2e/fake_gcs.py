"""An object store that the real `gcloud storage` talks to: what it uses of Google's JSON API.

usage: fake_gcs.py BUCKET...     prints "port N", serves until SIGTERM.

Beside the API: /_objects lists "bucket/name size" by line; /_forbid?on=1 has all refused, until on=0.
"""

import base64
import hashlib
import json
import signal
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Store:
    def __init__(self, buckets):
        self.lock = threading.Lock()
        self.objects = {bucket: {} for bucket in buckets}  # bucket -> name -> (bytes, resource)
        self.uploads = {}  # id -> (bucket, resource, bytearray)
        self.forbidden = False
        self.generation = 1

    def put(self, bucket, resource, data, host):
        name = resource["name"]
        place = f"b/{bucket}/o/{urllib.parse.quote(name, safe='')}"
        self.generation += 1
        resource |= {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{self.generation}",
            "bucket": bucket,
            "mediaLink": f"http://{host}/download/storage/v1/{place}?alt=media",
            "size": str(len(data)),
            "generation": str(self.generation),
            "metageneration": "1",
            "storageClass": "STANDARD",
            "timeCreated": "2026-01-01T00:00:00.000Z",
            "updated": "2026-01-01T00:00:00.000Z",
            "etag": f"E{self.generation}",
            "contentType": "application/octet-stream",
            "md5Hash": base64.b64encode(hashlib.md5(data).digest()).decode(),
        }
        self.objects[bucket][name] = (bytes(data), resource)
        return resource


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store = None

    def log_message(self, *_):
        pass

    def answer(self, code, body=b"", headers=None):
        headers = headers or {}
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers |= {"Content-Type": "application/json"}
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def fail(self, code, text):
        self.answer(code, {"error": {"code": code, "message": text}})

    def handle_any(self):
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        parts = [urllib.parse.unquote(part) for part in url.path.strip("/").split("/")]
        with self.store.lock:
            if parts[0].startswith("_"):
                return self.control(parts[0], query)
            if self.store.forbidden:
                return self.fail(403, "ada@example.com does not have storage.objects.list access to the bucket.")
            if not self.headers.get("Authorization"):
                return self.fail(401, "Anonymous caller")
            is_upload = "upload" in parts[:2]
            parts = parts[parts.index("storage") if "storage" in parts else 0 :]
            bucket = parts[3] if len(parts) > 3 else ""
            if parts[:3] != ["storage", "v1", "b"] or bucket not in self.store.objects:
                return self.fail(404, "The specified bucket does not exist.")
            if is_upload:
                return self.upload(bucket, query, data)
            if parts[4:] == ["o"]:
                return self.list(bucket, query)
            if parts[4:5] == ["o"]:
                return self.one(bucket, "/".join(parts[5:]), query, data)
            return self.answer(200, {"kind": "storage#bucket", "id": bucket, "name": bucket})

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any

    def control(self, what, query):
        if what == "_objects":
            lines = [
                f"{bucket}/{name} {len(data)}\n"
                for bucket, objects in self.store.objects.items()
                for name, (data, _) in sorted(objects.items())
            ]
            return self.answer(200, "".join(lines).encode())
        self.store.forbidden = query.get("on") == "1"
        return self.answer(200)

    def list(self, bucket, query):
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        items, prefixes = [], set()
        for name, (_, resource) in sorted(self.store.objects[bucket].items()):
            if not name.startswith(prefix):
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                prefixes.add(prefix + rest.split(delimiter)[0] + delimiter)
            else:
                items.append(resource)
        return self.answer(200, {"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)})

    def one(self, bucket, name, query, data):
        if name not in self.store.objects[bucket]:
            return self.fail(404, f"No such object: {bucket}/{name}")
        held, resource = self.store.objects[bucket][name]
        if self.command == "DELETE":
            del self.store.objects[bucket][name]
            return self.answer(204)
        if self.command == "PATCH":
            resource |= json.loads(data)
            return self.answer(200, resource)
        if query.get("alt") != "media":
            return self.answer(200, resource)
        asked = self.headers.get("Range")
        if not asked:
            return self.answer(200, held, {"Content-Type": "application/octet-stream"})
        first, _, last = asked.removeprefix("bytes=").partition("-")
        last = min(int(last or len(held) - 1), len(held) - 1)
        part = held[int(first) : last + 1]
        return self.answer(206, part, {"Content-Range": f"bytes {first}-{last}/{len(held)}"})

    def upload(self, bucket, query, data):
        kind = query.get("uploadType")
        if kind == "multipart":
            boundary = self.headers.get("Content-Type").split("boundary=")[1].strip("'\"").encode()
            line = b"\r\n" if b"--" + boundary + b"\r\n" in data else b"\n"
            pieces = data.split(b"--" + boundary)
            meta, media = (piece.split(2 * line, 1)[1] for piece in pieces[1:3])
            media = media.removesuffix(line)
            return self.answer(200, self.store.put(bucket, json.loads(meta), media, self.headers["Host"]))
        if kind == "resumable" and self.command == "POST":
            key = str(len(self.store.uploads))
            resource = json.loads(data or b"{}")
            resource.setdefault("name", query.get("name"))
            self.store.uploads[key] = (bucket, resource, bytearray())
            where = f"http://{self.headers['Host']}/upload/storage/v1/b/{bucket}/o?upload_id={key}"
            return self.answer(200, b"", {"Location": where})
        _, resource, held = self.store.uploads[query["upload_id"]]
        held += data
        total = self.headers.get("Content-Range", "").rpartition("/")[2]
        if total in ("", "*") or len(held) < int(total):
            return self.answer(308, b"", {"Range": f"bytes=0-{len(held) - 1}"})
        return self.answer(200, self.store.put(bucket, resource, held, self.headers["Host"]))


def main():
    Handler.store = Store(sys.argv[1:])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"port {server.server_port}", flush=True)
    server.serve_forever()


main()

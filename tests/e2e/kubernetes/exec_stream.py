"""A command in a pod over a websocket, as kubectl exec wants it: subprotocol v5.channel.k8s.io.

Each message is binary; its first byte names the channel: 0 stdin, 1 stdout, 2 stderr, 3 how it
ended (a Status object), 255 "the channel named by the next byte is closed". RFC 6455 frames below.
"""

import base64
import hashlib
import json
import os
import struct
import subprocess
import threading

PROTOCOL = "v5.channel.k8s.io"
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
STDIN, STDOUT, STDERR, ENDED, CLOSE = 0, 1, 2, 3, 255
BINARY, CLOSED, PING, PONG = 2, 8, 9, 10


class WebSocket:
    """The server's end, after the handshake. Writes may come from several threads."""

    def __init__(self, reader, connection):
        self._reader = reader
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, opcode, payload):
        """False when the other end is gone."""
        head = bytes([0x80 | opcode])
        if len(payload) < 126:
            head += bytes([len(payload)])
        elif len(payload) < 65536:
            head += struct.pack(">BH", 126, len(payload))
        else:
            head += struct.pack(">BQ", 127, len(payload))
        try:
            with self._lock:
                self._connection.sendall(head + payload)
            return True
        except OSError:
            return False

    def _frame(self):
        head = self._reader.read(2)
        if len(head) < 2:
            return None
        size = head[1] & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", self._reader.read(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self._reader.read(8))
        mask = self._reader.read(4) if head[1] & 0x80 else b"\0\0\0\0"
        data = self._reader.read(size)
        if len(data) < size:
            return None
        if size:
            key = (mask * (size // 4 + 1))[:size]
            data = (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
        return head[0] & 0x80 != 0, head[0] & 0x0F, data

    def messages(self):
        """Binary messages, until the other end closes."""
        whole = b""
        while True:
            try:
                frame = self._frame()
            except (OSError, struct.error):
                return
            if frame is None or frame[1] == CLOSED:
                return
            final, opcode, data = frame
            if opcode == PING:
                self.send(PONG, data)
            elif opcode in (0, BINARY):
                whole += data
                if final:
                    yield whole
                    whole = b""


def handshake(handler):
    """Answers the upgrade of an http.server handler; None when it is not one for us."""
    asked = [p.strip() for p in handler.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    key = handler.headers.get("Sec-WebSocket-Key")
    if handler.headers.get("Upgrade", "").lower() != "websocket" or PROTOCOL not in asked:
        return None
    accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
    handler.connection.sendall(
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n"
        ).encode()
    )
    return WebSocket(handler.rfile, handler.connection)


def _status(code):
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def run(socket, argv, environment, has_stdin):
    """Runs `argv` with its streams on the socket, to its end or that of the connection.

    When the connection ends first, the command loses its input and its readers and goes on, as in
    a real container.
    """
    process = subprocess.Popen(
        argv,
        env=environment,
        stdin=subprocess.PIPE if has_stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )

    def listen():
        for message in socket.messages():
            if has_stdin and message[:1] == bytes([STDIN]):
                try:
                    process.stdin.write(message[1:])
                    process.stdin.flush()
                except OSError:
                    pass
            elif has_stdin and message == bytes([CLOSE, STDIN]):
                break
        if has_stdin:
            try:
                process.stdin.close()
            except OSError:
                pass
        for message in socket.messages():
            pass

    def tell(channel, pipe):
        while data := os.read(pipe.fileno(), 32768):
            if not socket.send(BINARY, bytes([channel]) + data):
                break
        pipe.close()

    threading.Thread(target=listen, daemon=True).start()
    tellers = [
        threading.Thread(target=tell, args=(STDOUT, process.stdout)),
        threading.Thread(target=tell, args=(STDERR, process.stderr)),
    ]
    for teller in tellers:
        teller.start()
    for teller in tellers:
        teller.join()
    code = process.wait()
    code = code if code >= 0 else 128 - code
    socket.send(BINARY, bytes([ENDED]) + json.dumps(_status(code)).encode())
    socket.send(CLOSED, struct.pack(">H", 1000))

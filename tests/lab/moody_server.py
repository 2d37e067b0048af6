"""An HTTP/1.1 backend with moods: moody_server.py PORT NAME DIRECTORY. What DIRECTORY/NAME.mood says
is how it answers; each request's method and path are appended to DIRECTORY/NAME.seen.

well: its name; sick: 503 to everything, health checks too; broken: 500; silent: no answer; slow: an
answer after a second; reset: RST instead of an answer; cut: RST within the body; short: FIN there."""

import pathlib
import socket
import socketserver
import struct
import sys
import time

PORT, NAME, DIRECTORY = int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])


def mood():
    try:
        return (DIRECTORY / f"{NAME}.mood").read_text().strip()
    except FileNotFoundError:
        return "well"


class Handler(socketserver.StreamRequestHandler):
    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def answer(self, status, body, declared=None):
        size = len(body) if declared is None else declared
        self.wfile.write(f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n{body}".encode())

    def serve_one(self):
        line = self.rfile.readline().decode()
        if not line:
            return False
        length = 0
        while (field := self.rfile.readline().strip()):
            if field.lower().startswith(b"content-length:"):
                length = int(field.split(b":")[1])
        self.rfile.read(length)
        method, path, _ = line.split(" ", 2)
        now = mood()
        if path == "/healthz":
            self.answer("503 Sick" if now == "sick" else "200 OK", "")
            return True
        with (DIRECTORY / f"{NAME}.seen").open("a") as seen:
            seen.write(f"{method} {path}\n")
        if now == "silent":
            time.sleep(30)
        if now in ("reset", "silent"):
            self.reset()
            return False
        if now in ("cut", "short"):
            self.answer("200 OK", "half", declared=8)
            self.wfile.flush()
            time.sleep(0.1)
            if now == "cut":
                self.reset()
            return False
        if now == "slow":
            time.sleep(1)
        self.answer({"sick": "503 Sick", "broken": "500 Broken"}.get(now, "200 OK"), NAME)
        return True

    def handle(self):
        try:
            while self.serve_one():
                pass
        except OSError:
            pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


Server(("0.0.0.0", PORT), Handler).serve_forever()

"""A client of HTTP/1.1 that breaks off, at random places: with FIN or RST, within TLS handshakes, heads,
bodies and answers.

    mixed_aborts.py ADDRESS SECONDS SEED          one line of JSON with counts at the end

Whatever is cut short has "cut" in its target. Nothing needs a certificate to be right.
"""

import collections
import json
import random
import socket
import ssl
import struct
import sys
import time

HOST = "api.shop.example"
LARGE = ["/cart/files/64MiB?cut", "/h2/bytes/3000000?cut", "/h2s/bytes/500000?cut"]
PATIENCE_S = 30


class Client:

    def __init__(self, address, seed):
        self.address, self.random = address, random.Random(seed)
        self.counts, self.failures = collections.Counter(), []
        self.context = ssl.create_default_context()
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE

    # ---- pieces -------------------------------------------------------------------------------

    def connect(self, port):
        return socket.create_connection((self.address, port), PATIENCE_S)

    def connect_any(self):
        """In the clear or over TLS."""
        if self.random.random() < 0.5:
            return self.connect(8080)
        return self.context.wrap_socket(self.connect(443), server_hostname=HOST)

    def some(self, data):
        """The beginning of it, never all."""
        return data[:self.random.randrange(1, len(data))]

    @staticmethod
    def reset(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Without TLS's own farewell.
        socket.socket(fileno=connection.detach()).close()

    @staticmethod
    def finish(connection):
        """FIN, and whatever comes until the other side's; a TLS connection says nothing about it."""
        plain = socket.socket(fileno=connection.detach())
        plain.settimeout(PATIENCE_S)
        try:
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(65536):
                pass
        except ConnectionError:
            pass  # it may answer such a FIN with RST
        plain.close()

    def end(self, connection):
        self.random.choice((self.reset, self.finish))(connection)

    @staticmethod
    def read_some(connection, size):
        while size > 0:
            piece = connection.recv(min(size, 65536))
            if not piece:
                raise OSError("the answer ended early")
            size -= len(piece)

    # ---- what can be broken off ---------------------------------------------------------------

    def handshake(self):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = self.context.wrap_bio(incoming, outgoing, server_hostname=HOST)
        try:
            session.do_handshake()
        except ssl.SSLWantReadError:
            pass
        connection = self.connect(443)
        connection.sendall(self.some(outgoing.read()))
        self.end(connection)

    def head(self):
        connection = self.connect_any()
        # Cut behind the target, so that the log can tell whose line it is.
        start = b"GET /cart/cut HTTP/1.1\r\n"
        connection.sendall(start + self.some(f"Host: {HOST}\r\nX-Pad: {'x' * 500}\r\n\r\n".encode()))
        self.end(connection)

    def body(self):
        connection = self.connect_any()
        size = self.random.randrange(2, 300_000)
        connection.sendall(f"POST /h2/up?cut HTTP/1.1\r\nHost: {HOST}\r\n"
                           f"Content-Length: {size}\r\n\r\n".encode())
        connection.sendall(self.some(b"x" * size))
        self.end(connection)

    def chunks(self):
        connection = self.connect_any()
        connection.sendall(f"PUT /cart/upload/cut HTTP/1.1\r\nHost: {HOST}\r\n"
                           "Transfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"1000\r\n" + b"y" * 4096 + b"\r\n"
        connection.sendall(self.some(chunk * self.random.randrange(1, 30) + b"0\r\n\r\n"))
        self.end(connection)

    def answer(self):
        connection = self.connect_any()
        target = self.random.choice(LARGE)
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        self.read_some(connection, self.random.randrange(1, 400_000))
        self.reset(connection)

    def unread_answer(self):
        """Asks, sends FIN and goes: there is nobody who reads."""
        connection = self.connect_any()
        connection.sendall(f"GET {self.random.choice(LARGE)} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        socket.socket(fileno=connection.detach()).close()

    def run(self, seconds):
        kinds = (self.handshake, self.head, self.body, self.chunks, self.answer, self.unread_answer)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            kind = self.random.choice(kinds)
            try:
                kind()
            except BrokenPipeError:
                pass  # what we sent was refused while we still sent it
            except OSError as error:
                self.failures.append(f"{kind.__name__}: {error}")
            self.counts[kind.__name__] += 1
        print(json.dumps({"cut": self.counts, "failures": self.failures[:20]}))


if __name__ == "__main__":
    Client(sys.argv[1], int(sys.argv[3])).run(float(sys.argv[2]))

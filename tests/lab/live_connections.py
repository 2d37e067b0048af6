#!/usr/bin/env python3
"""Many TCP connections to named_echo.py that keep exchanging data, until SIGTERM.

    live_connections.py --connections N [--period S] [--patience S] ADDRESS:PORT…

Each connection sends sixteen bytes once per period and expects them back. One that breaks is
replaced. Prints a line of JSON per event: "ready" when all are up, "broken" with the server's name
and when the connection was begun and lost (of the monotonic clock, which all processes share), and
"end" with what was exchanged and how long the slowest exchange took.
"""

import argparse
import collections
import json
import os
import selectors
import signal
import socket
import sys
import time

MESSAGE_BYTES = 16
CONNECTING_MAX = 256  # at once, so that no queue of a listener overflows


def say(event, **words):
    print(json.dumps({"event": event, **words}), flush=True)


class Connection:

    def __init__(self, target, load):
        self.target, self.load = target, load
        self.begin()

    def begin(self):
        host, port = self.target.rsplit(":", 1)
        host = host.strip("[]")
        self.name, self.expected, self.got = "", b"", b""
        self.since = self.sent_at = time.monotonic()
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET,
                                    socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.connect_ex((host, int(port)))
        self.load.selector.register(self.socket, selectors.EVENT_READ, self)

    def lose(self, why):
        if self.name:
            say("broken", target=self.target, name=self.name, since=self.since, at=time.monotonic(),
                why=why)
        else:
            self.load.refused[why] += 1
        self.load.selector.unregister(self.socket)
        self.socket.close()
        self.begin()

    def read(self):
        try:
            data = self.socket.recv(4096)
        except BlockingIOError:
            return
        except OSError as error:
            self.lose(os.strerror(error.errno))
            return
        if not data:
            self.lose("closed by the server")
            return
        self.got += data
        if not self.name:
            if self.got.endswith(b"\n"):
                self.name, self.got = self.got.decode().strip(), b""
                self.expected = b""
        elif self.got == self.expected:
            self.load.exchanged[self.target] += 1
            self.load.slowest_s = max(self.load.slowest_s, time.monotonic() - self.sent_at)
            self.got = self.expected = b""
        elif len(self.got) >= len(self.expected):
            self.lose("answered with something else")

    def send(self, now):
        """Its turn has come."""
        if not self.name or self.expected:
            if now - self.sent_at > self.load.patience_s:
                self.lose("no answer")
            return
        self.expected, self.sent_at = os.urandom(MESSAGE_BYTES), now
        try:
            self.socket.send(self.expected)
        except OSError as error:
            self.lose(os.strerror(error.errno))


class Load:

    def __init__(self, arguments):
        self.period_s, self.patience_s = arguments.period, arguments.patience
        self.selector = selectors.EpollSelector()
        self.exchanged, self.refused = collections.Counter(), collections.Counter()
        self.slowest_s = 0.0
        self.connections = []
        self.ending = False
        signal.signal(signal.SIGTERM, self.end)
        for number in range(arguments.connections):
            target = arguments.targets[number % len(arguments.targets)]
            self.connections.append(Connection(target, self))
            while sum(not c.name for c in self.connections[-CONNECTING_MAX:]) == CONNECTING_MAX:
                self.poll(0.01)

    def end(self, *_):
        self.ending = True

    def poll(self, seconds):
        for key, _ in self.selector.select(seconds):
            key.data.read()

    def run(self):
        while not self.ending and not all(c.name for c in self.connections):
            self.poll(0.05)
        self.slowest_s = 0.0
        say("ready", servers=dict(collections.Counter(c.name for c in self.connections)))
        turn, began = 0, time.monotonic()
        while not self.ending:
            self.poll(0.005)
            now = time.monotonic()
            due = int((now - began) / self.period_s * len(self.connections))
            for _ in range(min(due - turn, len(self.connections))):
                self.connections[turn % len(self.connections)].send(now)
                turn += 1
            turn = max(turn, due)  # what could not be sent in time is not caught up with
        say("end", exchanged=dict(self.exchanged), refused=dict(self.refused),
            slowest_s=round(self.slowest_s, 3), live=sum(bool(c.name) for c in self.connections))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--period", type=float, default=1.0)
    parser.add_argument("--patience", type=float, default=10.0)
    parser.add_argument("targets", nargs="+")
    Load(parser.parse_args()).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

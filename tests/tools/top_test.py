#!/usr/bin/env python3
"""`weir top` on a real pseudo terminal, with a daemon that is played by this script: keys, sizes,
a daemon that goes away, and that every way out leaves the terminal as it was.

    WEIR_PROGRAM=build/dev/tools/weir/weir tests/tools/top_test.py
"""

import http.server
import json
import os
import pathlib
import re
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from screen import Terminal  # noqa: E402 the path comes first

PROGRAM = os.environ.get("WEIR_PROGRAM", "build/dev/tools/weir/weir")
DOWN, UP, PAGE_DOWN, END = "\x1bOB", "\x1bOA", "\x1b[6~", "\x1bOF"


class Daemon:
    """Answers GET /v1/stats with counters that go up by a rate of each VIP."""

    def __init__(self, socket, vips=None):
        self.vips = vips or {"203.0.113.1:80/tcp": ("web", 100, 90), "203.0.113.2:53/udp": ("dns", 3000, 3000),
                             "203.0.113.3:25/tcp": ("mail", 20, 20)}
        self.asked = []
        self.delay_s = 0
        daemon = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(url.query))
                daemon.asked.append(query)
                time.sleep(daemon.delay_s)
                body = json.dumps(daemon.stats(query)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def address_string(self):
                return "client"

            def log_message(self, *unused):
                pass

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            def handle_error(self, *unused):
                """A client that has gone meanwhile is none."""

            daemon_threads = True
            request_queue_size = 16

        self.socket = socket
        self.server = Server(str(socket), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def stats(self, query):
        now = time.monotonic_ns()
        seconds = now / 1e9

        def counters(rate):
            return {"packets": int(rate * seconds), "bytes": int(rate * seconds) * 100,
                    "new_flows": int(rate * seconds / 10)}

        vips = []
        for vip, (name, rate, sent) in self.vips.items():
            if query.get("vip", vip) != vip:
                continue
            row = {"vip": vip, "name": name, "mode": "ipip", "sent_packets": int(sent * seconds),
                   **counters(rate)}
            if query.get("backends") != "false":
                row["backends"] = [{"address": f"10.0.0.{i}", "name": f"{name}-{i}", **counters(rate / 2)}
                                   for i in (1, 2)]
            vips.append(row)
        total = sum(rate for _, rate, _ in self.vips.values())
        return {"read_at_ns": now, "total": counters(total), "vips": vips, "return": [], "nat": None,
                "verdicts": [{"verdict": "tx_ipip", "action": "tx", **counters(total)}], "flow_table": {}}

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        self.socket.unlink()


class RulesDaemon(Daemon):
    """Answers GET /v1/routes: requests a second of each rule, all by its two endpoints."""

    RULES = {"shop/cart": 300, "shop/users": 1000, "shop/idle": 0}

    def __init__(self, socket):
        super().__init__(socket, self.RULES)

    def stats(self, query):
        now = time.monotonic_ns()
        seconds = now / 1e9

        def counters(rate):
            return {"requests": int(rate * seconds), "failures": 0, "duration_us": int(rate * seconds) * 5000,
                    "within_1000ms": int(rate * seconds), "responses_2xx": int(rate * seconds),
                    "responses_3xx": 0, "responses_4xx": 0, "responses_5xx": 0}

        rows = []
        for name, rate in self.vips.items():
            if query.get("rule", name) != name:
                continue
            route, rule = name.split("/")
            service = {"service": rule, "weight": 1}
            if "rule" in query:
                service["endpoints"] = [
                    {"endpoint": f"10.0.0.{i}:80", "usable": i == 1, "requests": int(rate * seconds / 2),
                     "failures": 0, "exchanges": i, "connections": 7} for i in (1, 2)]
            rows.append({"route": route, "rule": rule, "answer": "services", "services": [service],
                         "counters": counters(rate)})
        total = {**counters(sum(self.vips.values())), "connections": 42, "log_dropped": 0,
                 "busy_ns": now // 4, "idle_ns": now * 3 // 4}
        return {"read_at_ns": now, "total": total, "routes": rows}


class TopCase(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.socket = pathlib.Path(self.directory.name) / "l4.sock"
        self.daemon = None
        self.addCleanup(lambda: self.daemon and self.daemon.close())
        self.environment = {"WEIR_L4_SOCKET": str(self.socket), "TERM": "xterm-256color",
                            "LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]}

    def start(self, *arguments, height=24, width=80, vips=None, **environment):
        self.daemon = Daemon(self.socket, vips)
        terminal = Terminal([PROGRAM, "top", "--interval", "200ms", *arguments], height, width,
                            self.environment | environment)
        self.addCleanup(terminal.close)
        return terminal

    def shown(self, terminal):
        """First words of the rows."""
        return [line.split()[0] for line in terminal.screen.lines()[3:-1] if line]

    def assert_restored(self, terminal):
        self.assertEqual(terminal.modes_now(), terminal.modes)
        self.assertFalse(terminal.screen.alternate)
        self.assertFalse(terminal.screen.cursor_hidden)

    def assert_runs(self, terminal):
        pid, _ = os.waitpid(terminal.pid, os.WNOHANG)
        self.assertEqual(pid, 0, "it has ended")


class Keys(TopCase):
    def test_vips_are_sorted_by_rate_and_keys_change_that(self):
        top = self.start()
        top.wait_for(lambda: "3.00k" in top.screen.text() and "q quit" in top.screen.text())
        self.assertTrue(top.screen.alternate)
        self.assertEqual(self.shown(top), ["203.0.113.2:53/udp", "203.0.113.1:80/tcp", "203.0.113.3:25/tcp"])
        self.assertIn("weir top   3 VIPs", top.screen.lines()[0])
        self.assertRegex(top.screen.lines()[1], r"received 3\.1\dk packets/s, 2\.\d+M bits/s")
        top.press("a")
        top.wait_for(lambda: self.shown(top)[0] == "203.0.113.1:80/tcp")
        top.press("d")
        top.wait_for("*DROPS/S")
        self.assertEqual(self.shown(top)[0], "203.0.113.1:80/tcp")
        top.press("r")
        top.wait_for(lambda: self.shown(top)[-1] == "203.0.113.1:80/tcp")

    def test_a_filter_is_typed_and_taken_back(self):
        top = self.start()
        top.wait_for("203.0.113.3")
        top.press("/mai")
        top.wait_for("1 match 'mai_'")
        top.wait_for(lambda: self.shown(top) == ["203.0.113.3:25/tcp"])
        top.press("\x7f\x7f\x7f\x7f")
        top.wait_for(lambda: len(self.shown(top)) == 3)
        top.press("DNS\r")
        top.wait_for(lambda: "match 'DNS'" in top.screen.text() and len(self.shown(top)) == 1)

    def test_enter_opens_the_backends_and_escape_goes_back(self):
        top = self.start()
        top.wait_for("3.00k")
        top.press(DOWN + "\r")
        top.wait_for("web-2")
        self.assertIn("203.0.113.1:80/tcp", top.screen.lines()[0])
        self.assertEqual(self.shown(top), ["10.0.0.1", "10.0.0.2"])
        self.assertEqual(self.daemon.asked[-1], {"vip": "203.0.113.1:80/tcp"})
        top.wait_for(lambda: re.search(r"(?m)^10\.0\.0\.1 +web-1 +\d", top.screen.text()))
        top.press("\x1b")
        top.wait_for("3 VIPs")
        top.wait_for("203.0.113.2")
        self.assertEqual(self.daemon.asked[-1], {"backends": "false"})

    def test_paused_it_stands_still(self):
        top = self.start()
        top.wait_for("3.00k")
        top.press("p")
        top.wait_for("paused")
        self.daemon.vips = {"203.0.113.9:80/tcp": ("other", 1, 1)}
        asked = len(self.daemon.asked)
        top.wait_for(lambda: len(self.daemon.asked) > asked + 2)
        self.assertIn("203.0.113.2", top.screen.text())
        top.press(" ")
        top.wait_for("203.0.113.9")

    def test_a_name_cannot_steer_the_terminal(self):
        top = self.start(vips={"203.0.113.1:80/tcp": ("a\x1b[2Jz\u00fc\u6f22", 5, 5)})
        top.wait_for("a?[2Jz\u00fc")
        self.assertIn("203.0.113.1:80/tcp", top.screen.text())

    def test_keys_are_answered_while_the_daemon_is_busy(self):
        top = self.start()
        top.wait_for("3.00k")
        self.daemon.delay_s = 30
        asked = len(self.daemon.asked)
        top.wait_for(lambda: len(self.daemon.asked) > asked)
        top.press("q")
        self.assertEqual(top.wait_end(5), 0)
        self.assert_restored(top)


class Sizes(TopCase):
    def test_it_follows_the_size_of_the_terminal(self):
        top = self.start()
        top.wait_for("3.00k")
        top.resize(10, 40)
        top.wait_for(lambda: top.screen.lines()[9].startswith("Enter backends"))
        self.assertIn("PACKETS/S", top.screen.lines()[2])
        self.assertNotIn("DROPS", top.screen.text())
        top.resize(30, 120)
        top.wait_for(lambda: top.screen.lines()[29].startswith("Enter backends"))
        self.assertIn("DROPS/S", top.screen.lines()[2])

    def test_no_size_is_too_small(self):
        top = self.start(vips={f"203.0.113.{n}:80/tcp": (f"web{n}", n, n) for n in range(40)})
        top.wait_for("203.0.113.39")
        for height, width in ((24, 1), (1, 80), (1, 1), (2, 2), (4, 3), (5, 5), (3, 200), (24, 80)):
            top.resize(height, width)
            top.press(DOWN + PAGE_DOWN + END + UP + "/x\x1b")
            top.pump(0.4)
            self.assert_runs(top)
        top.wait_for("40 VIPs")
        top.press("q")
        self.assertEqual(top.wait_end(), 0)

    def test_of_many_vips_a_page_is_shown(self):
        top = self.start(vips={f"203.0.{n // 250}.{n % 250}:80/tcp": ("", n, n) for n in range(2000)})
        top.wait_for("203.0.7.249")
        self.assertEqual(len(self.shown(top)), 20)
        top.press(END)
        top.wait_for("203.0.0.0")


class Ends(TopCase):
    def test_every_way_out_restores_the_terminal(self):
        for way in ("q", "\x03", signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(way):
                top = self.start()
                top.wait_for("3.00k")
                if isinstance(way, str):
                    top.press(way)
                else:
                    top.signal(way)
                self.assertEqual(top.wait_end(), 0)
                self.assert_restored(top)
                self.daemon.close()
                self.daemon = None

    def test_a_daemon_that_is_gone_is_waited_for(self):
        top = self.start()
        top.wait_for("3.00k")
        self.daemon.close()
        self.daemon = None
        top.wait_for("reconnecting: cannot reach weir-l4")
        self.assertIn("203.0.113.2", top.screen.text())
        self.daemon = Daemon(self.socket)
        top.wait_for("received 3.")
        self.assertNotIn("reconnecting", top.screen.text())
        self.daemon.close()
        self.daemon = None
        top.wait_for("reconnecting")
        top.signal(signal.SIGTERM)
        self.assertEqual(top.wait_end(), 0)
        self.assert_restored(top)

    def test_without_a_daemon_at_the_start_the_reason_is_on_the_line(self):
        top = Terminal([PROGRAM, "top"], 24, 80, self.environment)
        self.addCleanup(top.close)
        self.assertEqual(os.waitstatus_to_exitcode(top.wait_end()), 1)
        self.assertIn("weir: cannot reach weir-l4", top.raw)
        self.assert_restored(top)


class Rules(TopCase):
    """`weir top l7`: another daemon, another list, the same screen."""

    def setUp(self):
        super().setUp()
        self.environment["WEIR_L7_SOCKET"] = self.environment.pop("WEIR_L4_SOCKET")

    def start(self, *arguments):
        self.daemon = RulesDaemon(self.socket)
        terminal = Terminal([PROGRAM, "top", "l7", "--interval", "200ms", *arguments], 24, 110, self.environment)
        self.addCleanup(terminal.close)
        return terminal

    def test_rules_are_sorted_by_requests_and_enter_opens_their_endpoints(self):
        top = self.start()
        top.wait_for(lambda: re.search(r"(?m)^shop/users +users +1\.\d\dk ", top.screen.text()))
        self.assertEqual(self.shown(top), ["shop/users", "shop/cart", "shop/idle"])
        self.assertIn("weir top l7   3 rules", top.screen.lines()[0])
        self.assertRegex(top.screen.lines()[1], r"^1\.\d+k requests/s: 2xx .* 42 clients; busy 25%; log lost 0/s")
        self.assertRegex(top.screen.lines()[5], r"^shop/idle +idle +0 +0 +0 +0 +- +0$")
        top.press(DOWN + "\r")
        top.wait_for(lambda: re.search(r"(?m)^10\.0\.0\.2:80 +cart +1\d\d.* 0 +2 +7 +no$", top.screen.text()))
        self.assertIn("weir top l7   shop/cart", top.screen.lines()[0])
        self.assertEqual(self.daemon.asked[-1], {"rule": "shop/cart"})
        top.press("\x1b")
        top.wait_for("3 rules")
        top.wait_for("shop/idle")
        self.assertEqual(self.daemon.asked[-1], {})
        top.press("/idl\r")
        top.wait_for(lambda: self.shown(top) == ["shop/idle"])
        top.press("q")
        self.assertEqual(top.wait_end(), 0)
        self.assert_restored(top)

    def test_a_weir_l7_that_restarts_is_waited_for(self):
        top = self.start("--sort", "name")
        top.wait_for("42 clients")
        self.daemon.close()
        self.daemon = None
        top.wait_for("reconnecting: cannot reach weir-l7")
        self.assertEqual(self.shown(top), ["shop/cart", "shop/idle", "shop/users"])
        self.daemon = RulesDaemon(self.socket)
        top.wait_for("42 clients")
        self.assertNotIn("reconnecting", top.screen.text())

    def test_one_frame_is_text_of_rules_or_of_the_endpoints_of_one(self):
        self.daemon = RulesDaemon(self.socket)
        for words, shown in ((["l7"], ["shop/users", "shop/cart", "shop/idle"]),
                             (["l7", "--sort", "name", "--filter", "cart"], ["shop/cart"]),
                             (["l7", "shop/cart", "--sort", "active"], ["10.0.0.2:80", "10.0.0.1:80"])):
            done = subprocess.run([PROGRAM, "top", *words, "--once", "--interval", "200ms"],
                                  env=self.environment | {"COLUMNS": "110"}, capture_output=True, text=True,
                                  timeout=20)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertEqual([line.split()[0] for line in done.stdout.splitlines()[3:]], shown)


class Words(TopCase):
    def test_words_that_do_not_go_together_are_refused_with_what_there_is(self):
        for words, complaint in (
                (["l5"], "WHAT is l4, l7 or a VIP, and 'l5' names no protocol; write ADDRESS:PORT/PROTOCOL"),
                (["l4", "shop/cart"], "'shop/cart' names no port; write ADDRESS:PORT/PROTOCOL"),
                (["203.0.113.1:80/tcp", "more"], "'more' is one too many: there is a VIP already"),
                (["l7", "--sort", "bits"], "there is no 'bits' here, but name, requests, "),
                (["l4", "--sort", "time"], "there is no 'time' here, but address, packets, "),
                (["--sort", "time"], "there is no 'time' here, but address, packets, ")):
            done = subprocess.run([PROGRAM, "top", *words, "--once"], env=self.environment, capture_output=True,
                                  text=True, timeout=20)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn(complaint, done.stderr)

    def test_l4_is_what_it_is_without_a_word(self):
        self.daemon = Daemon(self.socket)
        for words in ([], ["l4"]):
            done = subprocess.run([PROGRAM, "top", *words, "--once", "--interval", "200ms"], env=self.environment,
                                  capture_output=True, text=True, timeout=20)
            self.assertIn("weir top   3 VIPs", done.stdout)
        for words in (["203.0.113.1:80/tcp"], ["l4", "203.0.113.1:80/tcp"]):
            done = subprocess.run([PROGRAM, "top", *words, "--once", "--interval", "200ms"], env=self.environment,
                                  capture_output=True, text=True, timeout=20)
            self.assertIn("weir top   203.0.113.1:80/tcp", done.stdout)
            self.assertIn("web-2", done.stdout)


class Terminals(TopCase):
    def test_colours_are_only_where_the_terminal_has_them_and_they_are_wanted(self):
        for environment, has_colour in (({"TERM": "xterm-256color"}, True), ({"TERM": "vt100"}, False),
                                        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False)):
            with self.subTest(environment):
                top = self.start("--sort", "address", **environment)
                top.wait_for("203.0.113.3")
                top.press(DOWN)  # the selected row is reversed, not red
                top.pump(0.8)
                top.press("q")
                self.assertEqual(top.wait_end(), 0)
                self.assertEqual("\x1b[31m" in top.raw, has_colour)
                self.daemon.close()
                self.daemon = None

    def test_an_unknown_terminal_is_refused_with_what_to_do(self):
        top = self.start(TERM="no-such-terminal")
        self.assertEqual(os.waitstatus_to_exitcode(top.wait_end()), 1)
        self.assertIn("the terminal 'no-such-terminal' is not known here", top.raw)
        self.assertIn("weir top --once", top.raw)

    def test_into_a_pipe_one_frame_is_text_and_more_is_refused(self):
        self.daemon = Daemon(self.socket)
        done = subprocess.run([PROGRAM, "top", "--once", "--interval", "200ms", "--filter", "203"],
                              env=self.environment | {"COLUMNS": "100"}, capture_output=True, text=True,
                              timeout=20)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = done.stdout.splitlines()
        self.assertEqual(len(lines), 6)
        self.assertIn("203.0.113.2:53/udp", lines[3])
        self.assertNotIn("\x1b", done.stdout)
        refused = subprocess.run([PROGRAM, "top"], env=self.environment, capture_output=True, text=True,
                                 stdin=subprocess.DEVNULL, timeout=20)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("input or output is no terminal; 'weir top --once' prints one frame", refused.stderr)


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
"""What the shells themselves make of the completion scripts: a line goes in, words come out. A
stand-in for weir-l4 has the VIPs.

    completion_test.py PROGRAM
"""

import contextlib
import http.server
import json
import os
import pathlib
import pty
import select
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import unittest

VIPS = {"vips": [
    {"vip": "203.0.113.80:80/tcp", "name": "web",
     "backends": [{"address": "10.77.0.11", "name": "b1"}, {"address": "10.77.0.12", "name": ""}]},
    {"vip": "203.0.113.80:443/tcp", "name": "", "backends": []},
    {"vip": "[2001:db8::25]:25/tcp", "name": "mail", "backends": []}]}


ROUTES = {"routes": [{"route": "shop", "rule": "cart"}, {"route": "shop", "rule": "users"}]}


class Answer(http.server.BaseHTTPRequestHandler):
    """As either daemon: GET /v1/routes, and GET /v1/vips whatever else is asked."""

    def do_GET(self):
        body = json.dumps(ROUTES if self.path == "/v1/routes" else VIPS).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nobody reads it."""

    def address_string(self):
        return "client"


class Shells(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.directory / "weir").symlink_to(pathlib.Path(PROGRAM).resolve())
        socket = cls.directory / "l4.sock"
        server = socketserver.ThreadingUnixStreamServer(str(socket), Answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cls.addClassCleanup(server.server_close)
        cls.addClassCleanup(server.shutdown)
        cls.environment = os.environ | {
            "PATH": f"{cls.directory}:{os.environ['PATH']}", "WEIR_L4_SOCKET": str(socket),
            "WEIR_L7_SOCKET": str(socket),
            "HOME": str(cls.directory), "TERM": "dumb", "LC_ALL": "C.UTF-8"}
        for shell in ("bash", "zsh", "fish"):
            script = subprocess.run([PROGRAM, "completion", shell], capture_output=True, check=True)
            (cls.directory / f"script.{shell}").write_bytes(script.stdout)

    def words(self, shell, line):
        """What completes the line in that shell, without descriptions."""
        if shutil.which(shell) is None:
            self.skipTest(f"{shell} is not installed; run tools/setup")
        return getattr(self, f"words_of_{shell}")(line)

    def run_shell(self, *command):
        return subprocess.run(command, env=self.environment, cwd=self.directory, timeout=60,
                              capture_output=True, text=True, check=True).stdout

    def words_of_bash(self, line):
        script = (f"source {self.directory}/script.bash; COMP_LINE='{line}'; "
                  "COMP_POINT=${#COMP_LINE}; compopt() { echo \"compopt $*\"; }; _weir; "
                  "printf '%s\\n' \"${COMPREPLY[@]}\"")
        return set(self.run_shell("bash", "--norc", "-c", script).split("\n")) - {""}

    def words_of_fish(self, line):
        out = self.run_shell("fish", "--no-config", "-c",
                             f"source {self.directory}/script.fish; complete -C '{line}'")
        return {row.split("\t")[0] for row in out.splitlines()}

    def both(self, line):
        """By the shells that tell it without a terminal."""
        return [self.words(shell, line) for shell in ("bash", "fish")]

    def test_verbs_are_known(self):
        for words in self.both("weir "):
            self.assertLessEqual({"vip", "backend", "doctor", "status", "unload"}, words)
        for words in self.both("weir vip "):
            self.assertLessEqual({"add", "del", "list", "show"}, words)
        for words in self.both("weir vip sh"):
            self.assertEqual(words, {"show"})

    def test_flags_are_known_and_those_of_the_whole_command(self):
        for words in self.both("weir vip add --"):
            self.assertLessEqual({"--mode", "--table-size", "--l4-socket", "--help"}, words)
            self.assertNotIn("--man", words)

    def test_values_of_an_option_are_known(self):
        for words in self.both("weir vip add --mode "):
            self.assertEqual(words, {"ipip", "gue", "l2", "nat"})
        for words in self.both("weir status -o j"):
            self.assertEqual(words, {"json"})
        self.assertEqual(self.words("bash", "weir vip add --mode=n"), {"nat"})
        self.assertEqual(self.words("fish", "weir vip add --mode=n"), {"--mode=nat"})

    def test_vips_are_those_of_the_daemon(self):
        vips = {vip["vip"] for vip in VIPS["vips"]}
        for words in self.both("weir vip show "):
            self.assertEqual(words, vips)
        # Readline takes a colon for the end of a word, and wants what is behind it.
        self.assertEqual(self.words("bash", "weir vip show 203.0.113.80:4"), {"443/tcp"})
        self.assertEqual(self.words("fish", "weir vip show 203.0.113.80:4"),
                         {"203.0.113.80:443/tcp"})

    def test_top_has_both_planes_and_what_is_in_them(self):
        vips = {vip["vip"] for vip in VIPS["vips"]}
        for words in self.both("weir top "):
            self.assertEqual(words, {"l4", "l7"} | vips)
        for words in self.both("weir top l4 "):
            self.assertEqual(words, vips)
        for words in self.both("weir top l7 "):
            self.assertEqual(words, {"shop/cart", "shop/users"})
        for words in self.both("weir top l7 shop/cart --sort co"):
            self.assertEqual(words, {"connections"})

    def test_backends_are_those_of_the_vip(self):
        for words in self.both("weir backend set 203.0.113.80:80/tcp "):
            self.assertEqual(words, {"10.77.0.11", "10.77.0.12"})
        for words in self.both("weir backend set 203.0.113.80:443/tcp "):
            self.assertFalse(words & {"10.77.0.11", "10.77.0.12"})

    def test_devices_are_those_of_the_host(self):
        for words in self.both("weir load "):
            self.assertIn("lo", words)

    def test_files_are_left_to_the_shell(self):
        (self.directory / "some.yaml").touch()
        self.assertEqual(self.words("bash", "weir apply -f so"), {"compopt -o default"})
        self.assertEqual(self.words("fish", "weir apply -f so"), {"some.yaml"})

    def test_nothing_is_said_where_nothing_fits(self):
        for words in self.both("weir nonsense --what "):
            self.assertEqual(words, set())
        for words in self.both("weir vip show x"):
            self.assertEqual(words, set())

    def test_a_daemon_that_is_away_is_no_error(self):
        environment = self.environment | {"WEIR_L4_SOCKET": "/nowhere/l4.sock"}
        done = subprocess.run([PROGRAM, "__complete", "vip", "show", ""], env=environment,
                              capture_output=True, text=True, check=True)
        self.assertEqual((done.stdout, done.stderr), ("", ""))

    # ---- zsh completes only at a terminal ------------------------------------------------------

    def test_zsh_completes_at_its_prompt(self):
        if shutil.which("zsh") is None:
            self.skipTest("zsh is not installed; run tools/setup")
        for typed, expected in (("weir vip sh\t", "weir vip show"),
                                ("weir vip add --mo\t", "weir vip add --mode"),
                                ("weir vip add --mode na\t", "weir vip add --mode nat"),
                                ("weir vip show \\[2001\t", r"weir vip show \[2001:db8::25\]:25/tcp"),
                                ("weir vip show 203.0.113.80:4\t", "203.0.113.80:443/tcp"),
                                ("weir apply -f som\t", "weir apply -f some.yaml")):
            (self.directory / "some.yaml").touch()
            with self.subTest(typed=typed):
                self.assertIn(expected, self.typed_in_zsh(typed, expected))

    def typed_in_zsh(self, typed, expected):
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.directory)
            os.execvpe("zsh", ["zsh", "-f", "-i"], self.environment)
        try:
            self.expect(terminal, "% ", "# ")  # the latter is root's
            os.write(terminal, b"PS1='ready> '; autoload -U compinit; compinit -u -D; "
                               b"source ./script.zsh\n")
            self.expect(terminal, "\nready> ", "\rready> ")
            os.write(terminal, typed.encode())
            return self.expect(terminal, expected)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
            os.waitpid(pid, 0)
            os.close(terminal)

    @staticmethod
    def expect(terminal, *texts):
        """What the terminal shows until one of the texts is in it, or 20 s have gone."""
        seen = ""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not any(text in seen for text in texts):
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 4096).decode(errors="replace")
        return seen


if __name__ == "__main__":
    PROGRAM = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()

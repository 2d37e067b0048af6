"""What scripts share that load one weir-l7 from all sides."""

import random
import re
import threading
import time

from h2_test import GRPC, HERE, PYTHON, h2_config, start_h2_servers
from labcase import *

HOST = "api.shop.example"
CLEAR, NAMED, TLS = f"http://{VIP_EDGE4}:8080", f"http://{HOST}:8080", f"https://{HOST}"
UPLOAD_BYTES = 500_000
PATIENCE_S = 120  # for one command on a busy machine
DOWNLOAD = "8MiB"
LOADED = re.compile(r"(\d+) total, \d+ started, (\d+) done, (\d+) succeeded, 0 failed, 0 errored, 0 timeout")


class Repeated(threading.Thread):
    """Runs one command after another until the time is up; a check that raises is a failure."""

    def __init__(self, name, deadline, once):
        super().__init__(name=name, daemon=True)
        self.deadline, self.once = deadline, once
        self.count, self.failures = 0, []

    def goes_on(self):
        return time.monotonic() < self.deadline

    def run(self):
        while self.goes_on() and len(self.failures) < 5:
            try:
                self.count += self.once()
            except Exception as error:  # of any kind: it is told, and fails the test
                self.failures.append(f"{self.name}: {error}")


class MixedCase(LabCase):
    """A weir-l7 before endpoints of all kinds, and what clients do with it."""

    @classmethod
    def configuration(cls):
        return h2_config(cls.lab.directory)

    @classmethod
    def prepare(cls):
        cls.lab.make_certificates()
        cls.text = cls.configuration()
        cls.config = cls.lab.write_config(cls.text)
        start_h2_servers(cls.lab)
        cls.lab.weir("apply", "-f", cls.config)
        cls.lab.start_l7(cls.config)
        cls.upload = cls.lab.directory / "body"
        cls.upload.write_bytes(os.urandom(UPLOAD_BYTES))
        cls.upload_sum = sha256(cls.upload)
        (cls.lab.directory / "www" / DOWNLOAD).write_bytes(os.urandom(8 << 20))
        cls.download_sum = sha256(cls.lab.directory / "www" / DOWNLOAD)

    def change(self, number):
        """The same routes for the same paths, by another configuration."""
        text = self.text.replace("- {name: cart,", f"- {{name: cart{number},", 1)
        assert text != self.text
        self.lab.weir("apply", "-f", self.lab.write_config(text), timeout=PATIENCE_S)

    # ---- what clients do ----------------------------------------------------------------------

    def h2load(self, requests, *words):
        done = self.lab.run_in("client", "h2load", f"-n{requests}", "-t1", *words, timeout=PATIENCE_S)
        match = LOADED.search(done.stdout)
        if not match or match.groups() != (str(requests),) * 3:
            raise AssertionError(f"h2load {words}: {done.stdout[-800:]}")
        return requests

    def curl(self, version, path, *words):
        """By TLS; returns the body."""
        out = self.lab.directory / f"out-{threading.get_ident()}"
        self.lab.curl("-k", "-f", version, "--resolve", f"{HOST}:443:{VIP_EDGE4}", "-o", out,
                      "--max-time", str(PATIENCE_S), *words, f"{TLS}{path}", timeout=PATIENCE_S + 10)
        return out

    def send_a_file(self, version):
        path = random.choice(("/h2/up", "/h2s/up"))
        reply = json.loads(self.curl(version, path, "-T", self.upload).read_text())
        if (reply["size"], reply["sha256"]) != (UPLOAD_BYTES, self.upload_sum):
            raise AssertionError(f"{path} received {reply}")
        return 1

    def fetch_a_file(self, version):
        if sha256(self.curl(version, f"/users/files/{DOWNLOAD}")) != self.download_sum:
            raise AssertionError("the file came otherwise than it was")
        return 1

    def read_slowly(self, seconds):
        """64 MiB at a pace of its own. curl opens a window of megabytes and then does not read for as long
        as they take: for less than the 30 s after which Weir gives a client up."""
        done = self.lab.run_in(
            "client", "curl", "-sS", "--http2-prior-knowledge", "--limit-rate", "1M", "--max-time",
            str(seconds), "-o", "/dev/null", "-w", "%{http_code} %{size_download}", "-H",
            f"Host: {HOST}", f"{CLEAR}/cart/files/64MiB?cut", check=False, timeout=seconds + 30)
        status, size = done.stdout.split()
        if status != "200" or done.returncode not in (0, 28) or int(size) < 100_000:
            raise AssertionError(f"{status}, {size} bytes, curl says {done.returncode}")
        return 1

    def hear_events(self, version, seconds):
        done = self.lab.run_in(
            "client", "curl", "-sS", "-N", version, "--max-time", str(seconds), "-H", f"Host: {HOST}",
            f"{CLEAR}/ws/events?cut", check=False, timeout=seconds + 30)
        ids = [int(i) for i in re.findall(r"^id: (\d+)$", done.stdout, re.MULTILINE)]
        # Ten a second, of which a busy machine makes fewer; none is missing.
        if done.returncode != 28 or ids != list(range(1, len(ids) + 1)) or len(ids) < 2 * seconds:
            raise AssertionError(f"{len(ids)} events in {seconds} s, curl says {done.returncode}")
        return len(ids)

    def run_script(self, seconds, *command):
        """One of ours that says in a line of JSON what it has done, and what has failed."""
        done = self.lab.run_in("client", *command, check=False, timeout=seconds + 120)
        said = json_lines(done.stdout)
        if not said or said[-1]["failures"]:
            raise AssertionError(f"{command[1:3]}: {done.stdout[-2000:]} {done.stderr[-2000:]}")
        self.said[self.name_of(command)] = {k: v for k, v in said[-1].items() if k != "failures"}
        return 1

    @staticmethod
    def name_of(command):
        return command[-1] if command[0] == "node" else pathlib.Path(command[1]).stem

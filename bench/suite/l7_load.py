"""One turn of load on one proxy: the clients' words, what they print, and what it took meanwhile."""

import json
import pathlib
import re
import subprocess
import time

from l7_hosts import (ADDRESS, BACKEND_PORT, DIRECT, GRPC_MESSAGE, GRPC_PATH, HTTP_PORT, HTTPS_PORT, LOAD, LOAD_CORE,
                      NAME, PROXY_CORE)
from programs import BENCH, LabError
from rows import WEIR

UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
H2LOAD_END = "Stopped all clients for thread #0"
GRACE_S = 20  # beyond its duration, before a client counts as stuck
# Connections are opened, and handshakes made, before anything counts.
WARM_UP_S = 0.15
START_S = 0.05  # until a client runs
END_S = 0.05  # left out before its end


class Window:
    """What the proxy's core, its processes and Weir's worker did between begin() and end()."""

    def __init__(self, lab, proxy):
        self.lab, self.proxy = lab, proxy
        self.numbers = {}

    def begin(self):
        self.before = self.sample()

    def end(self):
        spent = {key: value - self.before[key] for key, value in self.sample().items()}
        self.numbers = {"core0_busy": spent["busy"] / max(spent["busy"] + spent["idle"], 1),
                        "processor": spent["processor_s"] / spent["clock_s"]}
        turns = spent.get("busy_ns", 0) + spent.get("idle_ns", 0)
        if turns:
            self.numbers["worker_busy"] = spent["busy_ns"] / turns

    def sample(self):
        found = {"clock_s": time.monotonic(), **core(PROXY_CORE),
                 "processor_s": self.lab.groups[self.proxy].processor_s()}
        if self.proxy == WEIR:
            stats = self.lab.weir_stats()
            found |= {key: stats.get(key, 0) for key in ("busy_ns", "idle_ns")}
        return found


def core(number):
    """Ticks of a core from /proc/stat: of work, and of none."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{number} "):
            user, nice, system, idle, wait, irq, softirq, steal = map(int, line.split()[1:9])
            return {"busy": user + nice + system + irq + softirq + steal, "idle": idle + wait}
    raise LabError(f"/proc/stat has no core {number}")


def run_client(lab, command, seconds, window=None, warm_up=0.0):
    """Runs it on its core to its end; kills it when it does not come to one."""
    words = lab.command_in(LOAD, *lab.placed(LOAD_CORE, LOAD, *command))
    log = lab.directory / "client.log"
    with open(log, "w+", encoding="utf-8") as out, \
         subprocess.Popen(words, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                          process_group=0) as process:
        lab.processes["client"] = process
        try:
            if window:
                time.sleep(warm_up + START_S)
                window.begin()
                time.sleep(max(seconds - START_S - END_S, 0.05))
                window.end()
            process.wait(seconds + GRACE_S)
        except subprocess.TimeoutExpired:
            raise LabError(f"{' '.join(map(str, command))} did not end within {seconds + GRACE_S:g} s") from None
        finally:
            lab.stop("client")
    text = log.read_text(errors="replace")
    if process.returncode != 0:
        raise LabError(f"{' '.join(map(str, command))}: exit {process.returncode}: {text[-500:]}")
    return text


def find(pattern, text, what):
    match = re.search(pattern, text)
    if match is None:
        raise LabError(f"{what} is not in what the client has printed: {text[-500:]}")
    return match


def port_of(proxy, scheme):
    return BACKEND_PORT if proxy == DIRECT else {"http": HTTP_PORT, "https": HTTPS_PORT}[scheme]


def wrk(lab, proxy, scheme, path, seconds, window=None, connections=64, headers=()):
    """A closed loop over HTTP/1.1; requests a second."""
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    for header in (f"Host: {NAME}", *headers):
        words += ["-H", header]
    text = run_client(lab, [*words, f"{scheme}://{ADDRESS[proxy]}:{port_of(proxy, scheme)}{path}"],
                      seconds - WARM_UP_S, window, WARM_UP_S)
    return wrk_rate(proxy, text)


def wrk_rate(proxy, text):
    if "Non-2xx" in text or re.search(r"Socket errors:.* [1-9]", text):
        raise LabError(f"{proxy} failed requests: {text[-500:]}")
    done = find(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", text, "the number of requests")
    return int(done[1]) / (float(done[2]) * UNITS[done[3]])


def h2load(lab, proxy, seconds, *options, window=None, scheme="https", path="/", body_bytes=0, warm_up=WARM_UP_S):
    """A closed loop over HTTP/2, or HTTP/1.1 with --h1; requests a second, each answered with so many bytes."""
    port = port_of(proxy, scheme)
    words = ["h2load", "-t1", "-D", f"{1000 * seconds:.0f}ms", f"--warm-up-time={1000 * warm_up:.0f}ms",
             f"--connect-to={ADDRESS[proxy]}:{port}", *options, f"{scheme}://{NAME}:{port}{path}"]
    try:
        text = run_client(lab, words, seconds, window, warm_up)
    except LabError:
        # With many connections h2load sometimes hangs behind its own end, whatever it has spoken to, and keeps what
        # it has counted to itself. What it had to do is done then, so that this is not the proxy's failure.
        if not (lab.directory / "client.log").read_text(errors="replace").rstrip().endswith(H2LOAD_END):
            raise
        text = run_client(lab, words, seconds, window, warm_up)
    return h2load_requests(proxy, text, body_bytes) / seconds


def h2load_requests(proxy, text, body_bytes=0):
    """How many were answered well, each with at least so many bytes."""
    done = find(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, "
                r"(\d+) errored", text, "the number of requests")
    count = int(done[2])
    if int(done[3]) or int(done[4]) or count == 0:
        raise LabError(f"{proxy} failed requests: {done[0]}")
    data = int(find(r"\((\d+)\) data", text, "the number of bytes")[1])
    if data < count * body_bytes * 0.99:
        raise LabError(f"{proxy} answered {count} requests with {data} bytes, not {body_bytes} each")
    return count


def grpc(lab, proxy, seconds, *options, window=None):
    """Unary calls: 32 bytes each way. An error has status 200 as well, but no message."""
    return h2load(lab, proxy, seconds, "-d", lab.directory / "message", "-H", "content-type: application/grpc",
                  "-H", "te: trailers", *options, window=window, path=GRPC_PATH, body_bytes=len(GRPC_MESSAGE))


def peer(lab, proxy, seconds, *options, window=None, policy=()):
    """kernel_peer as a client of HTTP or WebSockets; its report."""
    text = run_client(lab, [*policy, BENCH / "kernel_peer", "rr",
                            "--peer", f"{ADDRESS[proxy]}:{port_of(proxy, 'http')}", "--connections", 64,
                            "--seconds", seconds, "--warm-up", int(1000 * WARM_UP_S), "--json", *options],
                      seconds, window, WARM_UP_S)
    report = json.loads(text.splitlines()[-1])
    if report["failures"]:
        raise LabError(f"{proxy} failed {report['failures']} of 64 connections")
    return report


def sockets(lab, proxy, seconds, window=None):
    """WebSocket messages in a closed loop: 64 bytes there, 256 back; a second."""
    return peer(lab, proxy, seconds, "--websocket", window=window)["rate_per_s"]


def idle_words(proxy, connections):
    """A client that opens connections and says next to nothing on them."""
    return ["h2load", "-t1", "-D", "30s", "--h1", f"-c{connections}", "--rps=0.1",
            f"--connect-to={ADDRESS[proxy]}:{HTTPS_PORT}", f"https://{NAME}:{HTTPS_PORT}/"]


def connections_to(lab, proxy):
    return len(lab.run_in(LOAD, "ss", "-Htn", "state", "established", "dst",
                          f"{ADDRESS[proxy]}:{HTTPS_PORT}").stdout.splitlines())


def latencies(lab, proxy, seconds, rate):
    """At a fixed rate, each from when it was due."""
    # It polls, to be there when a request is due and when its answer comes; but never in the backend's way, with
    # which it shares a core: that one would wait for the end of its time slice, milliseconds.
    report = peer(lab, proxy, seconds, "--http", "--poll", "--rate", int(rate), policy=("chrt", "--idle", "0"))
    if report["rate_per_s"] < 0.95 * rate:
        raise LabError(f"{proxy} answered {report['rate_per_s']:.0f} a second of {rate:.0f}")
    return {key: report[key] for key in ("p50_us", "p99_us", "p999_us")}

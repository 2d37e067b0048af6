"""One round of load on one proxy: the clients' words, what they print, and what it took meanwhile."""

import json
import os
import pathlib
import re
import subprocess

from l7_hosts import (ADDRESS, BACKEND_PORT, DIRECT, GRPC_PATH, HTTP_PORT, HTTPS_PORT, LOAD, LOAD_CORE, NAME,
                      PROXY_CORE)
from programs import BENCH, LabError
from rows import WEIR

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
GRACE_S = 20  # beyond its duration, before a client counts as stuck


class Window:
    """Between enter and exit: what both cores, a proxy's processes and Weir's worker did."""

    def __init__(self, lab, proxy):
        self.lab, self.proxy = lab, proxy
        self.numbers = {}

    def __enter__(self):
        self.stats = self.worker()
        self.used = self.group().processor_s() if self.group() else 0.0
        self.cores = cores()
        return self

    def __exit__(self, *unused):
        for name, core in (("core0", PROXY_CORE), ("core1", LOAD_CORE)):
            spent = {k: v - self.cores[core][k] for k, v in cores()[core].items()}
            self.numbers[f"{name}_busy"] = spent["busy"] / max(spent["busy"] + spent["idle"], 1)
        if self.group():
            self.numbers["processor_s"] = self.group().processor_s() - self.used
        if self.proxy == WEIR:
            after = self.worker()
            spent = {k: after[k] - self.stats[k] for k in after}
            whole = spent.get("busy_ns", 0) + spent.get("idle_ns", 0)
            if whole:
                self.numbers["worker_busy"] = spent["busy_ns"] / whole
                self.numbers["busy_s"] = spent["busy_ns"] / 1e9

    def group(self):
        return self.lab.groups.get(self.proxy)

    def worker(self):
        if self.proxy != WEIR:
            return {}
        stats = self.lab.weir_stats()
        return {k: stats.get(k, 0) for k in ("busy_ns", "idle_ns")}


def cores():
    """Ticks of each core from /proc/stat: of work, and of none."""
    found = {}
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        match = re.match(r"cpu(\d+) (.*)", line)
        if match:
            user, nice, system, idle, wait, irq, softirq, steal = map(int, match[2].split()[:8])
            found[int(match[1])] = {"busy": user + nice + system + irq + softirq + steal,
                                    "idle": idle + wait}
    return found


def run_client(lab, command, seconds):
    """Runs it on its core to its end; kills it when it does not come to one."""
    words = lab.command_in(LOAD, *lab.placed(LOAD_CORE, LOAD, *command))
    log = lab.directory / "client.log"
    with open(log, "w+", encoding="utf-8") as out, \
         subprocess.Popen(words, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                          process_group=0) as process:
        lab.processes["client"] = process
        try:
            process.wait(seconds + GRACE_S)
        except subprocess.TimeoutExpired:
            raise LabError(f"{command[0]} did not end within {seconds + GRACE_S:g} s") from None
        finally:
            lab.stop("client")
    text = log.read_text(errors="replace")
    if process.returncode != 0:
        raise LabError(f"{' '.join(map(str, command))}: exit {process.returncode}: {text[-500:]}")
    return text


def seconds_of(text):
    match = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    return float(match[1]) * UNITS[match[2]]


def find(pattern, text, what):
    match = re.search(pattern, text)
    if match is None:
        raise LabError(f"{what} is not in what the client has printed: {text[-500:]}")
    return match


def wrk(lab, proxy, scheme, path, seconds, connections=64, headers=()):
    """A closed loop over HTTP/1.1."""
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
    for header in (f"Host: {NAME}", *headers):
        words += ["-H", header]
    port = BACKEND_PORT if proxy == DIRECT else {"http": HTTP_PORT, "https": HTTPS_PORT}[scheme]
    text = run_client(lab, [*words, f"{scheme}://{ADDRESS[proxy]}:{port}{path}"], seconds)
    if "Non-2xx" in text or re.search(r"Socket errors:.*(read|write|timeout) [1-9]", text):
        raise LabError(f"{proxy} failed requests: {text[-500:]}")
    done = find(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", text, "the number of requests")
    return {"requests": int(done[1]), "seconds": float(done[2]) * UNITS[done[3]],
            "p99_us": 1e6 * seconds_of(find(r"(?m)^\s+99%\s+([\d.]+[a-z]+)\s*$", text, "the latency")[1])}


def h2load_words(proxy, seconds, *options, scheme="https", path="/"):
    """By time; also HTTP/1.1 with --h1."""
    port = BACKEND_PORT if proxy == DIRECT else {"http": HTTP_PORT, "https": HTTPS_PORT}[scheme]
    return ["h2load", "-t1", "-D", f"{1000 * seconds:.0f}ms", f"--connect-to={ADDRESS[proxy]}:{port}", *options,
            f"{scheme}://{NAME}:{port}{path}"]


def h2load(lab, proxy, seconds, *options, **where):
    text = run_client(lab, h2load_words(proxy, seconds, *options, **where), seconds)
    done = find(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, "
                r"(\d+) errored", text, "the number of requests")
    if int(done[3]) or int(done[4]) or int(done[2]) == 0:
        raise LabError(f"{proxy} failed requests: {done[0]}")
    return {"requests": int(done[2]), "seconds": seconds}


def grpc(lab, proxy, seconds, *options):
    """Unary calls: 32 bytes each way."""
    return h2load(lab, proxy, seconds, "-d", lab.directory / "message", "-H", "content-type: application/grpc",
                  "-H", "te: trailers", *options, path=GRPC_PATH)


def sockets(lab, proxy, seconds, connections=64):
    """WebSocket messages in a closed loop: 64 bytes there, 256 back."""
    text = run_client(lab, [BENCH / "kernel_peer", "rr", "--websocket", "--peer",
                            f"{ADDRESS[proxy]}:{HTTP_PORT}", "--connections", connections, "--seconds", seconds,
                            "--json"], seconds)
    report = json.loads(text.splitlines()[-1])
    if report["failures"]:
        raise LabError(f"{proxy} failed {report['failures']} WebSockets")
    return {"requests": report["operations"], "seconds": seconds, "p99_us": report["p99_us"]}


def h2load_latencies(lab, proxy, seconds, rate, connections=64, scheme="https"):
    """At a fixed rate, spread over the connections; the time of every request, in microseconds."""
    log = lab.directory / "requests.log"
    log.unlink(missing_ok=True)
    h2load(lab, proxy, seconds, "--h1", f"-c{connections}", f"--rps={rate / connections:g}",
           f"--log-file={log}", scheme=scheme)
    times = sorted(int(line.split()[2]) for line in log.read_text().splitlines())
    if not times:
        raise LabError(f"{proxy}: h2load has logged no request")
    return {"rate": len(times) / seconds, "p50_us": times[len(times) // 2],
            "p99_us": times[len(times) * 99 // 100], "p999_us": times[len(times) * 999 // 1000]}

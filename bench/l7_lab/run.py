#!/usr/bin/env python3
"""weir-l7 beside nginx and HAProxy, under the same load, on this machine.

    bench/l7_lab/run.py [--quick] [--rounds N] [--rows https_proxied,…] [--quotas 25,50,100] [--json FILE]

The proxy has core 0, client and backend have core 1 (hosts.py has the picture). Rounds alternate between
the three; medians count, and the spread says what they are worth. Needs root, and the targets `weir-l4`,
`weir-l7`, `weir`, `kernel_peer` and `weir_pass_generate` of the preset release.

One client core cannot load a full core of every proxy, and a worker that polls looks busy when it is not.
So what counts is requests for each second of the proxy's processor time, with the proxy limited to a
share of its core: `capacity` is that, times the share. Where the quota is used up, and the client is not
the limit, capacity is the rate; where it is not, the row is marked.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import sys

import load
from hosts import DIRECT, FILE_BYTES, HAPROXY, NGINX, PEERS, WEIR, L7Lab, LabError
from weirlab import run

PROXIES = (WEIR, NGINX, HAPROXY)
USED_UP = 0.9  # of its quota; with less, something else was the limit


# ---- one round of one proxy, as numbers ---------------------------------------------------------


def under(lab, proxy, quota, client):
    """The client's numbers and what the machine did meanwhile, with the proxy limited to its quota."""
    lab.groups[proxy].limit(quota)
    try:
        with load.Window(lab, proxy) as window:
            numbers = client()
    finally:
        lab.groups[proxy].limit(100)
    numbers |= window.numbers
    numbers["rate"] = numbers["requests"] / numbers["seconds"]
    numbers["processor"] = numbers["processor_s"] / numbers["seconds"]
    numbers["capacity"] = numbers["requests"] / max(numbers["processor_s"], 1e-3) * quota / 100
    # What it would be without polling in vain. Where others share the core, less than that.
    if quota == 100 and numbers.get("busy_s"):
        numbers["busy_capacity"] = numbers["requests"] / numbers["busy_s"]
    return numbers


def https_proxied(lab, proxy, seconds):
    return load.wrk(lab, proxy, "https", "/", seconds)


def https_direct(lab, proxy, seconds):
    return load.wrk(lab, proxy, "https", "/fixed", seconds)


def http_proxied(lab, proxy, seconds):
    return load.wrk(lab, proxy, "http", "/", seconds)


def h2_proxied(lab, proxy, seconds):
    return load.h2load(lab, proxy, seconds, "-c16", "-m4")


def tls_connect(lab, proxy, seconds):
    return load.wrk(lab, proxy, "https", "/fixed", seconds, headers=("Connection: close",))


def big(lab, proxy, seconds):
    numbers = load.wrk(lab, proxy, "https", "/big", seconds, connections=16)
    return numbers | {"requests": numbers["requests"] * FILE_BYTES / 1e6}


# ---- rows ---------------------------------------------------------------------------------------


class Row:
    """What is measured, of whom, and what it is held against: `target` times the better peer."""

    def __init__(self, name, what, client, target, unit="requests/s"):
        self.name, self.what, self.client, self.target, self.unit = name, what, client, target, unit
        self.rounds = {}  # (proxy, quota): [numbers]
        self.failed = None

    def measure(self, lab, proxy, quota, seconds):
        numbers = under(lab, proxy, quota, lambda: self.client(lab, proxy, seconds))
        self.rounds.setdefault((proxy, quota), []).append(numbers)

    def values(self, proxy, quota, key):
        return [numbers[key] for numbers in self.rounds.get((proxy, quota), []) if key in numbers]

    def median(self, proxy, quota, key):
        values = self.values(proxy, quota, key)
        return statistics.median(values) if values else None

    def better_peer(self, quota):
        return max(PEERS, key=lambda peer: self.median(peer, quota, "capacity") or 0)

    def not_limited(self, proxy, quota):
        """Whether something else than the proxy's share of its core was the limit."""
        processor = self.median(proxy, quota, "processor")
        return processor is not None and processor < USED_UP * quota / 100

    def document(self, quota):
        ours, peer = self.median(WEIR, quota, "capacity"), self.better_peer(quota)
        reference = self.median(peer, quota, "capacity")
        ratio = ours / reference if ours and reference else None
        target = f">= {self.target:g}x" if self.target else None
        met = None if ratio is None or self.target is None else ratio >= self.target
        return {"id": f"{self.name}@{quota}", "what": self.what, "value": ours, "unit": self.unit,
                "reference": peer, "reference_value": reference, "ratio": ratio,
                "spread": spread(self.values(WEIR, quota, "capacity")), "target": target,
                "verdict": verdict(met),
                "not_limited": [p for p in PROXIES if self.not_limited(p, quota)],
                "medians": {p: {k: self.median(p, quota, k) for k in (self.rounds.get((p, quota)) or [{}])[0]}
                            for p in PROXIES},
                "failed": self.failed}


class LatencyRow:
    """What a proxy adds to the backend's own p99, at half of what the better peer can do."""

    name, target = "latency", 0.3
    what = "added p99 latency, HTTPS proxied, at half of the better peer's full load"

    def __init__(self):
        self.rounds = {proxy: [] for proxy in (DIRECT, *PROXIES)}
        self.rate = None
        self.failed = None

    def measure(self, lab, proxy, seconds):
        if self.rate is None:
            self.rate = max(https_proxied(lab, peer, 1)["requests"] for peer in PEERS) / 2
        scheme = "http" if proxy == DIRECT else "https"
        self.rounds[proxy].append(load.h2load_latencies(lab, proxy, seconds, self.rate, scheme=scheme))

    def added(self, proxy):
        """Of each round, beside the backend alone in the same round."""
        return [mine["p99_us"] - alone["p99_us"]
                for mine, alone in zip(self.rounds[proxy], self.rounds[DIRECT])]

    def document(self):
        medians = {p: statistics.median(self.added(p)) if self.added(p) else None for p in PROXIES}
        peers = [p for p in PEERS if medians[p]]
        peer = min(peers, key=lambda p: medians[p]) if peers else None
        reference = medians[peer] if peer else None
        ratio = medians[WEIR] / reference if reference and medians[WEIR] is not None else None
        return {"id": self.name, "what": self.what, "value": medians[WEIR], "unit": "us",
                "reference": peer, "reference_value": reference, "ratio": ratio,
                "spread": spread(self.added(WEIR)), "target": f"<= {self.target:g}x",
                "verdict": verdict(None if ratio is None else ratio <= self.target),
                "requests_per_s": self.rate, "rounds": self.rounds, "failed": self.failed}


def make_rows():
    return [Row("https_proxied", "HTTPS keep-alive, proxied, 64 connections", https_proxied, 2.5),
            Row("https_direct", "HTTPS keep-alive, fixed answer, 64 connections", https_direct, 2.5),
            Row("http_proxied", "HTTP keep-alive, proxied, 64 connections", http_proxied, 2.5),
            Row("h2_proxied", "HTTP/2 over TLS, proxied to HTTP/1.1, 16 connections of 4 streams",
                h2_proxied, 2.0),
            Row("tls_connect", "a new TLS 1.3 connection for every request, fixed answer", tls_connect, 1.1),
            Row("big", "replies of 1 MiB over TLS, proxied, 16 connections", big, None, "MB/s"),
            LatencyRow()]


def spread(values):
    return [min(values), max(values)] if values else None


def verdict(met):
    return {True: "met", False: "missed", None: None}[met]


def measure(lab, rows, arguments):
    for row in rows:
        try:
            for number in range(arguments.rounds):
                if isinstance(row, LatencyRow):
                    for proxy in (DIRECT, *PROXIES):
                        show(f"{row.name}: round {number + 1} of {arguments.rounds}, {proxy}")
                        row.measure(lab, proxy, arguments.seconds)
                    continue
                for quota in arguments.quotas:
                    for proxy in PROXIES:
                        show(f"{row.name}: round {number + 1} of {arguments.rounds}, {quota} %, {proxy}")
                        row.measure(lab, proxy, quota, arguments.seconds)
        except LabError as error:
            row.failed = str(error)
    show("")


# ---- what is shown ------------------------------------------------------------------------------


def show(text):
    """The line of progress, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r{text:<70}\r", end="", file=sys.stderr, flush=True)


def short(value):
    if value is None:
        return "-"
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def details(document):
    """A line for each proxy: what was measured besides the capacity."""
    for proxy, numbers in document.get("medians", {}).items():
        words = [f"rate {short(numbers.get('rate'))}"]
        if numbers.get("p99_us") is not None:
            words.append(f"p99 {short(numbers['p99_us'])} us")
        words += [f"{label} {100 * numbers[key]:.0f} %" for key, label in
                  (("processor", "processor"), ("core0_busy", "core 0"), ("core1_busy", "core 1"),
                   ("worker_busy", "worker busy")) if numbers.get(key) is not None]
        if numbers.get("busy_capacity") is not None:
            words.append(f"{short(numbers['busy_capacity'])} by busy time alone")
        if proxy in document["not_limited"]:
            words.append("NOT LIMITED by its quota: the client was, or the machine")
        yield f"{'':<20}{proxy}: {', '.join(words)}"


def table(documents):
    lines = [f"{'ROW':<20}{'WEIR':<24}{'BETTER PEER':<18}{'RATIO':<8}{'VERDICT':<9}TARGET"]
    for row in documents:
        if row["failed"]:
            lines.append(f"{row['id']:<20}FAILED: {row['failed']}")
            continue
        low, high = row["spread"] or (None, None)
        ours = f"{short(row['value'])} ({short(low)}..{short(high)})"
        peer = f"{row['reference']} {short(row['reference_value'])}"
        ratio = f"{row['ratio']:.2f}" if row["ratio"] is not None else "-"
        lines.append(f"{row['id']:<20}{ours:<24}{peer:<18}{ratio:<8}{row['verdict'] or '-':<9}"
                     f"{row['target'] or '-'} {row['unit']}")
        lines.extend(details(row))
    return "\n".join(lines)


def versions():
    first = lambda *command: (run(*command, check=False).stderr or  # noqa: E731
                              run(*command, check=False).stdout).splitlines()[0]
    return {"nginx": first("nginx", "-v"), "haproxy": first("haproxy", "-v")}


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    names = [row.name for row in make_rows()]
    parser.add_argument("--rounds", type=int, default=3, help="of each row and proxy")
    parser.add_argument("--seconds", type=int, default=3, help="of each round, whole: wrk knows no others")
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    parser.add_argument("--rows", default=",".join(names), help=f"of {', '.join(names)}")
    parser.add_argument("--quotas", default="25,50,100", help="percent of core 0")
    parser.add_argument("--check", action="store_true",
                        help="fail where something could not be measured, not where a target is missed")
    parser.add_argument("--json", type=pathlib.Path, help="everything, into this file")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 1
    unknown = set(arguments.rows.split(",")) - set(names)
    if unknown:
        parser.error(f"no row is called {', '.join(sorted(unknown))}")
    try:
        arguments.quotas = [int(word) for word in arguments.quotas.split(",")]
    except ValueError:
        arguments.quotas = []
    if not arguments.quotas or not all(5 <= quota <= 100 for quota in arguments.quotas):
        parser.error("--quotas are whole numbers from 5 to 100, with commas between them")
    return arguments


def interrupt(*_):
    raise KeyboardInterrupt


def main():
    arguments = parse()
    if os.geteuid() != 0:
        sys.exit("SKIPPED: run.py needs root, because it makes network namespaces")
    if os.cpu_count() < 2:
        sys.exit("SKIPPED: run.py needs two cores, one for the proxy and one for its load")
    signal.signal(signal.SIGTERM, interrupt)
    rows = [row for row in make_rows() if row.name in arguments.rows.split(",")]
    interrupted = False
    try:
        with L7Lab() as lab:
            lab.prepare()
            measure(lab, rows, arguments)
    except KeyboardInterrupt:
        interrupted = True
        print("\ninterrupted; what has been measured so far:", file=sys.stderr)
    except LabError as error:
        sys.exit(f"run.py: {error}")
    documents = []
    for row in rows:
        documents += [row.document()] if isinstance(row, LatencyRow) else [
            row.document(quota) for quota in arguments.quotas]
    print(table(documents))
    if arguments.json:
        arguments.json.write_text(json.dumps(
            {"bench": "l7_lab", "kernel": os.uname().release, "cores": os.cpu_count(),
             "load": os.getloadavg()[0], "rounds": arguments.rounds, "seconds": arguments.seconds,
             **versions(), "rows": documents}, indent=1) + "\n")
    if interrupted:
        return 130
    if arguments.check:
        return 1 if any(row["failed"] or row["value"] is None for row in documents) else 0
    return 1 if any(row["failed"] or row["verdict"] == "missed" for row in documents) else 0


if __name__ == "__main__":
    sys.exit(main())

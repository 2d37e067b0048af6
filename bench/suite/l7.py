"""weir bench l7: weir-l7 beside nginx and HAProxy, and what HTTP, TLS and routing cost by themselves.

One client core cannot load a full core of every proxy, and a worker that polls looks busy when it is not. So
what counts is the rate over the share of a core that the proxy's processes had meanwhile, with the proxy limited to a
quota of its core: `capacity` is that, times the quota. Where less than the quota was used, or Weir's worker had turns
with nothing to do, the client was the limit, or the machine, and the turn is marked.
"""

import json
import signal
import time

import l7_load as load
import programs
import weirlab
from group import LabGroup
from l7_hosts import DIRECT, FILES, HAPROXY, LOAD, NGINX, PEERS, L7Lab
from programs import BENCH
from rows import CLIENT_BOUND, WEIR, Row, Series

PROXIES = (WEIR, NGINX, HAPROXY)
USED_UP = 0.9  # of its quota; with less, something else was the limit
QUOTA = 50  # what targets are said for, percent of a core
ROUTES = 10_000
IDLE = 500
FEW_CERTIFICATES = 200  # tls_bench takes no fewer


# ---- a turn of one proxy under one load ---------------------------------------------------------


def under(lab, proxy, quota, client):
    """The client's rate and what the machine did meanwhile, with the proxy limited to its quota."""
    window = load.Window(lab, proxy)
    lab.groups[proxy].limit(quota)
    try:
        rate = client(lab, proxy, window)
    finally:
        lab.groups[proxy].limit(100)
    return turn(rate, quota, window.numbers)


def turn(rate, quota, numbers):
    share = numbers["processor"]
    idle = share < USED_UP * quota / 100 or numbers.get("worker_busy", 1.0) < USED_UP
    return numbers | {"rate": rate, "capacity": rate / max(share, 1e-3) * quota / 100, CLIENT_BOUND: idle}


class Load:
    """A kind of load, what is said of it, and what it has to reach."""

    def __init__(self, id, what, client, target="", unit="requests/s"):
        self.id, self.what, self.client, self.target, self.unit = id, what, client, target, unit

    def rows(self, quota):
        suffix = "" if quota == QUOTA else f"_{quota}"
        if quota < 100:
            return [Row(f"l7.{self.id}{suffix}", f"{self.what}; {quota} % of a core", self.unit, "capacity", PEERS,
                        self.target)]
        return [Row(f"l7.{self.id}_rate", f"{self.what}; by the clock, a whole core", self.unit, "rate", PEERS),
                Row(f"l7.{self.id}_busy", "the worker's own busy share meanwhile", "x", "worker_busy", more=False),
                Row(f"l7.{self.id}_core", "core 0 not idle meanwhile, by /proc/stat", "x", "core0_busy", PEERS,
                    more=False)]


def loads(seconds):
    whole = max(1, round(seconds))  # wrk knows no others

    def h1(scheme, path="/", connections=64):
        # A handshake takes up to 1.5 ms of half a core.
        warm_up = max(load.WARM_UP_S, 1.5e-3 * connections if scheme == "https" else 0)
        return lambda lab, proxy, window=None: load.h2load(lab, proxy, seconds, "--h1", f"-c{connections}",
                                                           window=window, scheme=scheme, path=path, warm_up=warm_up)

    def h2(lab, proxy, window=None):
        return load.h2load(lab, proxy, seconds, "-c16", "-m4", window=window)

    def connects(lab, proxy, window=None):
        return load.wrk(lab, proxy, "https", "/fixed", whole, window, headers=("Connection: close",))

    def megabytes(lab, proxy, window=None):
        # For a second: in less, half a core has not finished any.
        return load.h2load(lab, proxy, 1, "--h1", "-c4", window=window, path="/files/1m") * FILES["1m"] / 1e6

    bars = [Load("https_proxied", "HTTPS keep-alive, proxied, 64 connections", h1("https"), ">= 2.5x"),
            Load("https_direct", "HTTPS keep-alive, fixed answer, 64 connections", h1("https", "/fixed"),
                 ">= 2.5x"),
            Load("http_proxied", "HTTP keep-alive, proxied, 64 connections", h1("http"), ">= 2.5x"),
            Load("h2_proxied", "HTTP/2 over TLS to HTTP/1.1, 16 connections of 4 streams", h2, ">= 2x"),
            Load("tls_connect", "a new TLS 1.3 connection for every request, fixed answer", connects, ">= 1.1x"),
            Load("body_1m", "replies of 1 MiB over TLS, proxied, 4 connections", megabytes, unit="MB/s")]
    more = [Load("websocket", "WebSocket messages, 64 bytes there, 256 back, 64 connections",
                 lambda lab, proxy, window: load.sockets(lab, proxy, seconds, window), unit="messages/s"),
            Load("grpc", "gRPC unary calls over TLS, 16 connections of 4 streams",
                 lambda lab, proxy, window: load.grpc(lab, proxy, seconds, "-c16", "-m4", window=window))]
    more += [Load(f"body_{name}", f"replies of {name} over TLS, proxied, 16 connections",
                  h1("https", f"/files/{name}", 16)) for name in FILES if name != "1m"]
    more += [Load(f"connections_{count}", f"HTTPS keep-alive, proxied, {count} connections",
                  h1("https", connections=count)) for count in (1, 16, 256, 1000)]
    return bars, more


# ---- what cannot be said as a rate --------------------------------------------------------------


def latency_series(group, seconds):
    """At half of the better peer's rate, every request counted from when it was due."""
    def measure(kind):
        if group.half_rate is None:
            client = group.loads["http_proxied"].client
            group.half_rate = max(client(group.lab, peer) for peer in PEERS) / 2
        return {kind: load.latencies(group.lab, kind, seconds, group.half_rate)}

    rows = [Row("l7.latency", "p99 added to the backend's own at half of the better peer's rate, HTTP", "us",
                "added_p99", PEERS, "<= 0.3x", more=False)]
    rows += [Row(f"l7.{key}", f"{key} of all requests at that rate", "us", f"{key}_us", PEERS, more=False)
             for key in ("p50", "p99", "p999")]
    series = Series("latency", (DIRECT, *PROXIES), measure, rows, seconds + 0.65)
    series.finish_round = add_p99
    return series


def add_p99(numbers):
    """Of the proxies, beside the backend alone in the same round."""
    for proxy in PROXIES:
        numbers[proxy]["added_p99"] = numbers[proxy]["p99_us"] - numbers[DIRECT]["p99_us"]


def idle_memory(group):
    """What each of many idle TLS connections costs the proxy."""
    def measure(proxy):
        lab, cgroup = group.lab, group.lab.groups[proxy]
        before = cgroup.resident_mb()
        lab.start("idle", LOAD, *load.idle_words(proxy, IDLE))
        try:
            weirlab.wait_until(f"{IDLE} connections to {proxy}", lambda: load.connections_to(lab, proxy) >= IDLE)
            time.sleep(1)
            grown = cgroup.resident_mb() - before
        finally:
            lab.stop("idle", signal.SIGKILL)
        return {proxy: {"kb": 1024 * grown / IDLE}}
    return Series("idle connections", PROXIES, measure,
                  [Row("l7.idle_memory", f"resident memory that {IDLE} TLS connections add, each", "KB", "kb",
                       PEERS, more=False)], 3, once=True, in_quick=False)


def changed(group):
    """`weir apply` of 10,000 routes of which one has changed, until a request gets the new answer."""
    def apply(lab):
        group.applied += 1
        config = lab.write_config(lab.configuration(ROUTES, f"answer {group.applied}"), "many.yaml")
        began = time.monotonic()
        lab.weir("apply", "-f", config, "--only", "l7")
        while lab.answer_of("/changing") != f"answer {group.applied}":
            if time.monotonic() - began > 20:
                raise programs.LabError("a configuration was not live 20 s after weir apply")
        return 1000 * (time.monotonic() - began)

    def measure(_kind):
        apply(group.lab)  # all are new to these hosts; the next has one that has changed
        return {WEIR: {"apply": apply(group.lab)}}
    return Series("apply", (WEIR,), measure,
                  [Row("l7.apply_10k", "weir apply with 10,000 routes, one changed, until a request sees it", "ms",
                       "apply", (), "<= 50", more=False)], 0.7)


# ---- programs that measure by themselves --------------------------------------------------------


def parser(seconds):
    def measure(_kind):
        found = programs.google_benchmark("http_bench", "^parse_request$|llhttp_request|forward_request", seconds)
        return {WEIR: {"parse": found["parse_request"]["cpu_time"], "forward": found["forward_request"]["cpu_time"],
                       "speed": 1 / found["parse_request"]["cpu_time"]},
                "llhttp": {"parse": found["llhttp_request"]["cpu_time"],
                           "speed": 1 / found["llhttp_request"]["cpu_time"]}}
    rows = [Row("l7.parser", "a browser's request of 534 bytes, parsed and checked", "ns", "parse", ("llhttp",),
                "<= 200", more=False),
            Row("l7.parser_ratio", "the same, speed beside llhttp", "1/ns", "speed", ("llhttp",), ">= 3x"),
            Row("l7.forward", "the same, parsed, fields removed and written for the endpoint", "ns", "forward", (),
                more=False)]
    return Series("parser", (WEIR,), measure, rows, 3 * seconds + 0.2, needs_hosts=False)


def tls_bench(seconds, certificates):
    return json.loads(programs.output_of("/usr/bin/taskset", "-c", "0", BENCH / "tls_bench", f"{seconds:g}",
                                         certificates, timeout=120))


def tls(seconds):
    def measure(_kind):
        found = tls_bench(seconds, FEW_CERTIFICATES)
        bare = {key: value["bare"] for key, value in found["rates"].items()}
        weir = {key: value["weir"] for key, value in found["rates"].items()}
        return {WEIR: weir | {"idle": max(found["idle_bytes"].values()) / 1024}, "openssl": bare}
    rows = [Row(f"l7.tls_{key}", f"{what} in memory, beside a bare OpenSSL loop", "1/s", key, ("openssl",), target)
            for key, what, target in (("full_12", "full handshakes of TLS 1.2", ">= 0.9x"),
                                      ("full_13", "full handshakes of TLS 1.3", ">= 0.9x"),
                                      ("resumed_12", "resumed sessions of TLS 1.2", ">= 0.7x"),
                                      ("resumed_13", "resumed sessions of TLS 1.3", ">= 0.7x"))]
    rows.append(Row("l7.tls_idle", "an idle TLS session", "KB", "idle", (), "<= 20", more=False))
    return Series("tls", (WEIR,), measure, rows, 8 * seconds + 1.5, needs_hosts=False)


def certificates(count):
    def measure(_kind):
        found = tls_bench(0.01, count)
        return {WEIR: {key: found[load] * 10_000 / count + found["create_s"]
                       for key, load in (("start", "load_s"), ("renewed", "load_one_new_s"))}}
    rows = [Row("l7.certificates", f"10,000 certificates read at the start (from {count})", "s", "start", (), "<= 2",
                more=False),
            Row("l7.certificates_renewed", f"the same at an apply, one of them new (from {count})", "s", "renewed", (),
                "<= 1", more=False)]
    return Series("certificates", (WEIR,), measure, rows, 1.6 + count / 1500, once=True, needs_hosts=False)


def router(seconds):
    def measure(_kind):
        found = programs.google_benchmark("router_bench", "match|build/listeners:1$|allocations",
                                          seconds)
        return {WEIR: {"match": found["match"]["cpu_time"] / 1000, "mb": found["build/listeners:1"]["snapshot_mb"],
                       "allocations": found["allocations"]["per_request"]}}
    rows = [Row("l7.match", "10,000 routes: the rule of a request", "us", "match", (), "<= 2", more=False),
            Row("l7.routes_memory", "10,000 routes in memory", "MB", "mb", (), "<= 50", more=False),
            Row("l7.allocations", "allocations of a proxied request on kept connections, HTTP/1.1", "1", "allocations",
                (), "<= 0", more=False)]
    return Series("router", (WEIR,), measure, rows, 0.5 + 4 * seconds, needs_hosts=False)


class Group(LabGroup):
    """Two hosts; all proxies at once on one core, and one at a time is loaded from the other."""

    name = "l7"
    make_lab = L7Lab
    setup_s = 1.5

    def __init__(self, quick):
        seconds = 0.25 if quick else 1
        self.half_rate, self.applied = None, 0
        bars, more = loads(seconds)
        self.loads = {load.id: load for load in bars}
        self.series = [idle_memory(self)]  # first: what is freed later is not always given back
        self.series += [self.turns(load, quota, seconds, in_quick=quota == QUOTA and load.id != "body_1m")
                        for load in bars for quota in (25, 50, 100)]
        self.series += [self.turns(load, QUOTA, seconds, in_quick=False) for load in more]
        self.series += [latency_series(self, 0.3 if quick else 3), changed(self),
                        parser(0.05 if quick else 0.5), tls(0.06 if quick else 1),
                        certificates(1000 if quick else 10_000), router(0.02 if quick else 0.5)]

    def __enter__(self):
        self.half_rate = None  # drawn anew in each round, as everything that a row depends on
        return super().__enter__()

    def turns(self, load, quota, seconds, in_quick=True):
        return Series(f"{load.id}, {quota} %", PROXIES,
                      lambda proxy: {proxy: under(self.lab, proxy, quota, load.client)}, load.rows(quota),
                      max(seconds, 1 if load.id in ("tls_connect", "body_1m") else 0) + 0.25, in_quick=in_quick)

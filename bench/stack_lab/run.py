#!/usr/bin/env python3
"""Our TCP stack beside the kernel's, under the same load, on this machine.

    bench/stack_lab/run.py [--quick] [--rounds N] [--rows rr64,bulk,…] [--json FILE]

A server on core 0, a client on core 1, each in a network namespace of its own, joined by a veth. In
the rounds of ours both ends are AF_XDP ports of stack_host; in the kernel's they are devices as
Linux makes them, with all offloads, under kernel_peer with one epoll thread each. Rounds alternate;
medians count, and the spread says what they are worth. Needs root, and the targets `stack_host`,
`kernel_peer`, `tcp_bench` and `lab_programs` of the preset release.
"""

import argparse
import contextlib
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "lab"))
import weirlab  # noqa: E402 the path comes first
from weirlab import LabError, run, wait_until  # noqa: E402

BENCH = weirlab.BUILD / "bench"
SERVER, CLIENT = "server", "client"
SERVER_CORE, CLIENT_CORE = 0, 1
OURS, KERNEL = "ours", "kernel"
# Of each kind of host: the devices on its ends, and their addresses.
DEVICES = {OURS: ("x0", "x1"), KERNEL: ("k0", "k1")}
NET = {OURS: "10.98.0", KERNEL: "10.99.0"}
PORT, PORTS = 9000, 16
SETTINGS = ("net.ipv4.ip_local_port_range=10000 65535", "net.ipv4.tcp_max_tw_buckets=65536",
            "net.ipv4.tcp_tw_reuse=1", "net.core.somaxconn=4096",
            "net.ipv4.tcp_max_syn_backlog=4096")
IDLE = 100_000
FLOOD_PER_S = 200_000
SENT_PER_S = 225_000  # what is missed is not caught up with
LEGITIMATE_PER_S = 1000
CUBIC = ("--congestion", "cubic")  # whatever this machine's default is


class StackLab(weirlab.Lab):
    """Two hosts, two veths, and the programs of one round."""

    nice = 0
    seed = 1  # of what the relay loses; one for both kinds in a round

    def prepare(self):
        for program in ("stack_host", "kernel_peer"):
            if not (BENCH / program).exists():
                raise LabError(f"{BENCH / program} is not built; build target {program}")
        self.remove_leftovers()
        for host in (SERVER, CLIENT):
            self.add_host(host)
            for setting in SETTINGS:
                self.run_in(host, "sysctl", "-qw", setting)
        for kind, (left, right) in DEVICES.items():
            self.cable(SERVER, left, CLIENT, right, 1500)
            if kind == KERNEL:
                self.offloads("on")
        for host, device, last in ((SERVER, "k0", 1), (CLIENT, "k1", 2)):
            self.run_in(host, "ip", "address", "add", f"{NET[KERNEL]}.{last}/24", "dev", device)
        for host, device in ((SERVER, "x0"), (CLIENT, "x1")):
            self.run_in(host, "sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=1")

    def offloads(self, state):
        for host, device in ((SERVER, "k0"), (CLIENT, "k1")):
            self.run_in(host, "ethtool", "-K", device, "tx", state, "tso", state, "gso", state,
                        check=False)

    def words(self, kind, host, role, core, options, device=None, address=None):
        """The command line of one peer."""
        last = 1 if host == SERVER else 2
        words = [role, "--core", core, "--json", *options]
        if kind == OURS:
            address = address or f"{NET[OURS]}.{last}/24"
            return [BENCH / "stack_host", *words, "--poll", "--device",
                    device or DEVICES[OURS][last - 1], "--address", address]
        # What is the stack's own business has no meaning for the kernel's.
        plain = [str(w) for w in words]
        for option in ("--connections-max", "--half-open-max", "--buffer-kb", "--pool-mb", "--gateway"):
            if option in plain:
                at = plain.index(option)
                del plain[at:at + 2]
        return [BENCH / "kernel_peer", *plain]

    def prefer(self, pid):
        """Before what else the machine does. Where the kernel groups processes by session, the group
        has a weight of its own, and theirs count within it only."""
        if self.nice:
            os.setpriority(os.PRIO_PROCESS, pid, self.nice)
            with contextlib.suppress(OSError):
                pathlib.Path(f"/proc/{pid}/autogroup").write_text(str(self.nice))

    @contextlib.contextmanager
    def server(self, kind, role, *options, **places):
        name = f"server-{kind}"
        (self.directory / f"{name}.log").unlink(missing_ok=True)
        options = ("--port", PORT, "--ports", PORTS, *options)
        self.start(name, SERVER, *self.words(kind, SERVER, role, SERVER_CORE, options, **places))
        self.prefer(self.processes[name].pid)
        wait_until(f"{name} to listen", lambda: self.alive(name) and '"ready"' in self.log(name), 30)
        try:
            yield self.processes[name].pid
        finally:
            self.stop(name)

    def client(self, kind, role, *options, on_open=None, timeout=60, peer=None, **places):
        """Runs a client to its end and returns its report."""
        peer = peer or f"{NET[kind]}.1:{PORT}"
        options = ("--peer", peer, "--ports", PORTS, *options)
        command = self.command_in(CLIENT, *self.words(kind, CLIENT, role, CLIENT_CORE, options,
                                                      **places))
        errors = self.directory / "client.err"
        with open(errors, "w", encoding="utf-8") as err, \
             subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True,
                              start_new_session=True) as process:
            self.processes["client"] = process
            self.prefer(process.pid)
            report = None
            watchdog = threading.Timer(timeout, process.kill)
            watchdog.start()
            try:
                for line in process.stdout:
                    event = json.loads(line)
                    if event["event"] == "open" and on_open:
                        on_open(process.pid)
                    if event["event"] == "report":
                        report = event
                process.wait(10)
            finally:
                watchdog.cancel()
                self.stop("client")
        if process.returncode != 0 or report is None:
            raise LabError(f"{kind} {role}: exit {process.returncode}: {errors.read_text()}")
        return report


def resident_mb(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def slab_mb():
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Slab:"):
            return int(line.split()[1]) / 1024
    return 0.0


# ---- rows: one round of one kind, as numbers ----------------------------------------------------


def round_rr64(lab, kind, seconds):
    with lab.server(kind, "echo"):
        report = lab.client(kind, "rr", "--connections", 64, "--seconds", seconds)
    return {"rate": report["rate_per_s"], "p50": report["p50_us"], "p99": report["p99_us"]}


def round_latency1(lab, kind, seconds):
    with lab.server(kind, "echo"):
        report = lab.client(kind, "rr", "--connections", 1, "--seconds", seconds)
    numbers = {"p50": report["p50_us"], "p99": report["p99_us"], "rate": report["rate_per_s"]}
    if kind == KERNEL:  # a kernel can poll too: both sides without sleep in epoll_wait
        with lab.server(kind, "echo", "--poll"):
            polling = lab.client(kind, "rr", "--connections", 1, "--seconds", seconds, "--poll")
        numbers["polling_p50"] = polling["p50_us"]
    return numbers


def round_crr(lab, kind, seconds):
    with lab.server(kind, "echo"):
        report = lab.client(kind, "crr", "--connections", 64, "--seconds", seconds)
    return {"rate": report["rate_per_s"], "p50": report["p50_us"], "failures": report["failures"]}


def round_bulk(lab, kind, seconds):
    size = ("--buffer-kb", 1024)
    with lab.server(kind, "sink", *size):
        report = lab.client(kind, "bulk", "--connections", 1, "--seconds", seconds, *size,
                            *(CUBIC if kind == KERNEL else ()))
    return {"gbit": report["gbit_per_s"]}


def round_idle100k(lab, kind, seconds):
    """The rate of 64 connections alone, and then beside 100,000 that only stand."""
    size = ("--connections-max", IDLE + 1000)
    # A kernel socket is a file; where the hard limit is low there are fewer, and the row says so.
    idle = IDLE if kind == OURS else min(IDLE, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 1000)
    numbers = {"idle": idle}
    with lab.server(kind, "echo", *size):
        alone = lab.client(kind, "rr", "--connections", 64, "--seconds", seconds)
    with lab.server(kind, "echo", *size) as server:
        before = resident_mb(server)
        slab = slab_mb()

        def on_open(client):
            del client
            numbers["server_mb"] = resident_mb(server) - before
            numbers["slab_mb"] = (slab_mb() - slab) / 2  # both ends of every connection are in it

        beside = lab.client(kind, "rr", "--connections", 64, "--idle", idle, "--seconds", seconds,
                            "--warm-up", 1000, *size, on_open=on_open)
    if kind == OURS:
        del numbers["slab_mb"]
    return numbers | {"alone": alone["rate_per_s"], "beside": beside["rate_per_s"],
                      "kept": beside["rate_per_s"] / alone["rate_per_s"]}


def round_synflood(lab, kind, seconds):
    """Legitimate connects of kernel sockets, 1,000 a second, amid a flood from other sources."""
    pins = lab.pins / "flood"
    if not pins.exists():
        pins.mkdir(parents=True)
        run("bpftool", "prog", "loadall", weirlab.BUILD / "tests" / "lab" / "flood.bpf.o", pins,
            "pinmaps", pins)
    seconds = max(seconds, 3)
    if kind == KERNEL:
        lab.receive_redirected(SERVER, "k0")
    device, address = ("k0", None) if kind == KERNEL else ("x0", f"{NET[KERNEL]}.1/24")
    try:
        with contextlib.ExitStack() as stack:
            if kind == OURS:  # a kernel client with an address in our network
                lab.run_in(CLIENT, "ip", "address", "flush", "dev", "k1")
                lab.run_in(CLIENT, "ip", "address", "add", f"{NET[KERNEL]}.2/24", "dev", "x1")
                stack.callback(lab.run_in, CLIENT, "ip", "address", "add", f"{NET[KERNEL]}.2/24",
                               "dev", "k1")
                stack.callback(lab.run_in, CLIENT, "ip", "address", "flush", "dev", "x1")
            server = stack.enter_context(lab.server(kind, "echo", "--gateway", f"{NET[KERNEL]}.2",
                                                    "--buffer-kb", 64, address=address))
            before = resident_mb(server)
            mac = json.loads(lab.run_in(SERVER, "ip", "-j", "link", "show", device).stdout)[0]["address"]
            flood = lab.start("flood", CLIENT, "taskset", "-c", CLIENT_CORE, "python3",
                              ROOT / "tests" / "lab" / "flood_sender.py", pins,
                              "x1" if kind == OURS else "k1", mac, f"{NET[KERNEL]}.1", PORT,
                              SENT_PER_S, seconds + 4)
            lab.prefer(flood.pid)
            time.sleep(0.5)
            # By number: the client waits until each has worked or has failed.
            report = lab.client(KERNEL, "crr", "--rate", LEGITIMATE_PER_S, "--count",
                                int(LEGITIMATE_PER_S * seconds), "--connections", 8000)
            grown = resident_mb(server) - before
            flood.wait(30)
            lab.stop("flood")
    finally:
        if kind == KERNEL:
            lab.run_in(SERVER, "bpftool", "net", "detach", "xdpdrv", "dev", "k0", check=False)
    log = lab.directory / "flood.log"
    sent = json.loads(log.read_text().splitlines()[-1])
    log.unlink()
    return {"succeeded": report["operations"] / report["attempts"], "p50": report["p50_us"],
            "p99": report["p99_us"],
            "flood_per_s": sent["sent"] / sent["seconds"], "grown_mb": grown}


IMPAIR = weirlab.BUILD / "tests" / "lab" / "weir_impair_relay"


def round_lossy(lab, kind, seconds, delay_ms, loss_percent):
    """One sender, ours or the kernel's, to a kernel sink behind a link with delay and loss."""
    if not IMPAIR.exists():
        return None
    seconds = max(seconds, 10)
    with contextlib.ExitStack() as stack:
        lab.add_host("relay")
        stack.callback(run, "ip", "netns", "delete", lab.namespace("relay"), check=False)
        lab.cable("relay", "left", CLIENT, "l1", 1500)
        lab.cable("relay", "right", SERVER, "l0", 1500)
        for host, device in (("relay", "left"), ("relay", "right"), (CLIENT, "l1"), (SERVER, "l0")):
            lab.run_in(host, "ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off", "gro",
                       "off", check=False)
        lab.run_in(SERVER, "ip", "address", "add", "10.97.0.1/24", "dev", "l0")
        lab.run_in(SERVER, "sysctl", "-qw", "net.ipv4.tcp_rmem=4096 131072 16777216")
        lab.run_in(CLIENT, "sysctl", "-qw", "net.ipv4.tcp_wmem=4096 131072 16777216")
        # The delay is that of the whole round trip, half of it each way.
        lab.start("relay", "relay", IMPAIR, "--delay", f"{delay_ms / 2:g}ms", "--rate", "1Gbit",
                  "--seed", lab.seed, "--to", "right", "--loss", f"{loss_percent:g}%", "left", "right")
        stack.callback(lab.stop, "relay")
        wait_until("the relay", lambda: lab.alive("relay") and "ready" in lab.log("relay"))
        client = ("bulk", "--connections", 1, "--seconds", seconds, "--warm-up", 1000)
        with lab.server(KERNEL, "sink"):
            if kind == KERNEL:
                lab.run_in(CLIENT, "ip", "address", "add", "10.97.0.2/24", "dev", "l1")
                report = lab.client(kind, *client, *CUBIC, peer=f"10.97.0.1:{PORT}")
            else:
                report = lab.client(kind, *client, "--buffer-kb", 4096, device="l1",
                                    address="10.97.0.2/24", peer=f"10.97.0.1:{PORT}")
    return {"mbit": 1000 * report["gbit_per_s"]}


def round_memory(lab, kind, seconds):
    """Both ends over a ring in memory, two cores; nothing of the kernel's is like it."""
    del seconds
    if kind == KERNEL:
        return {}
    with subprocess.Popen([BENCH / "tcp_bench", "--benchmark_filter=between_cores|receive_",
                           "--benchmark_format=json", "--benchmark_min_time=1"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          start_new_session=True) as bench:
        lab.processes["tcp_bench"] = bench
        lab.prefer(bench.pid)
        text, _ = bench.communicate(timeout=180)
        lab.stop("tcp_bench")
    rows = {row["name"]: row for row in json.loads(text)["benchmarks"]}
    pick = lambda part: next(row for name, row in rows.items() if part in name)  # noqa: E731
    return {"rr": pick("request_reply/64")["items_per_second"],
            "crr": pick("connect_close/64")["items_per_second"],
            "latency_p50": pick("request_reply/1/")["p50_us"],
            "receive_ns": pick("receive_segment/bytes:1/")["ns_per_segment"],
            "receive_copy_ns": pick("receive_segment/bytes:1000")["ns_per_segment"],
            "receive_all_ns": pick("receive_frame/bytes:1448")["ns_per_segment"]}


# ---- verdicts -----------------------------------------------------------------------------------


class Row:
    """One line of the table: what is measured, what counts, and what it is held against."""

    def __init__(self, name, measure, shown, target, verdict, compared=True):
        self.compared = compared  # a ratio says something
        self.name, self.measure, self.shown = name, measure, shown
        self.target, self.verdict = target, verdict
        self.rounds = {OURS: [], KERNEL: []}
        self.skipped = None
        self.failed = None

    def median(self, kind, key):
        values = [numbers[key] for numbers in self.rounds[kind] if key in numbers]
        return statistics.median(values) if values else None

    def spread(self, kind, key):
        values = [numbers[key] for numbers in self.rounds[kind] if key in numbers]
        return (min(values), max(values)) if values else None

    def medians(self, kind):
        keys = {key: None for numbers in self.rounds[kind] for key in numbers}
        return {key: self.median(kind, key) for key in keys}

    def passed(self):
        ours, kernel = self.medians(OURS), self.medians(KERNEL)
        if self.failed:
            return False
        return self.verdict(ours, kernel) if ours else None


def ratio(ours, kernel, key):
    return ours[key] / kernel[key] if kernel.get(key) else 0.0


ROWS = [
    Row("rr64", round_rr64, "rate", ">= 2.4x kernel (220 k/s where it does 90 k)",
        lambda o, k: ratio(o, k, "rate") >= 2.4),
    Row("latency1", round_latency1, "p50", "p50 <= 8 us", lambda o, k: o["p50"] <= 8),
    Row("crr", round_crr, "rate", ">= 3.5x kernel (45 k/s where it does 12 k)",
        lambda o, k: ratio(o, k, "rate") >= 3.5 and o["failures"] == 0),
    Row("bulk", round_bulk, "gbit", ">= 3.5 Gbit/s; the kernel's 64 KB super-segments win on a veth",
        lambda o, k: o["gbit"] >= 3.5),
    Row("idle100k", round_idle100k, "server_mb", "<= 100 MB, rate of the active >= 90 %",
        lambda o, k: o["server_mb"] <= 100 and o["kept"] >= 0.9, compared=False),
    Row("synflood", round_synflood, "succeeded", ">= 99 % of connects amid 200 k SYN/s",
        lambda o, k: o["succeeded"] >= 0.99 and o["flood_per_s"] >= FLOOD_PER_S,
        compared=False),
    Row("lossy20", lambda *a: round_lossy(*a, 20, 1.0), "mbit",
        ">= 0.9x kernel at 20 ms, 1 % loss", lambda o, k: ratio(o, k, "mbit") >= 0.9),
    Row("lossy100", lambda *a: round_lossy(*a, 100, 0.1), "mbit",
        ">= 0.9x kernel at 100 ms, 0.1 % loss", lambda o, k: ratio(o, k, "mbit") >= 0.9),
    Row("memory", round_memory, "rr", "ring: rr >= 1.5 M/s, crr >= 300 k/s, receive <= 120 ns",
        lambda o, k: o["rr"] >= 1.5e6 and o["crr"] >= 3e5 and o["receive_ns"] <= 120),
]


def short(value):
    if value is None:
        return "-"
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def spread_text(row, kind):
    if not row.rounds[kind] or row.spread(kind, row.shown) is None:
        return "-"
    low, high = row.spread(kind, row.shown)
    return f"{short(row.median(kind, row.shown))} ({short(low)}..{short(high)})"


def table(rows):
    lines = [f"{'ROW':<10}{'OF':<11}{'OURS':<26}{'KERNEL':<26}{'RATIO':<8}{'VERDICT':<9}TARGET"]
    for row in rows:
        if row.skipped or row.failed:
            word = f"skipped: {row.skipped}" if row.skipped else f"FAILED: {row.failed}"
            lines.append(f"{row.name:<10}{word}")
            continue
        ours, kernel = row.median(OURS, row.shown), row.median(KERNEL, row.shown)
        factor = f"{ours / kernel:.2f}" if ours and kernel and row.compared else "-"
        verdict = {True: "met", False: "MISSED", None: "-"}[row.passed()]
        lines.append(f"{row.name:<10}{row.shown:<11}{spread_text(row, OURS):<26}"
                     f"{spread_text(row, KERNEL):<26}{factor:<8}{verdict:<9}{row.target}")
        for kind in (OURS, KERNEL):
            rest = {k: v for k, v in row.medians(kind).items() if k != row.shown}
            if rest:
                lines.append(f"{'':<10}{kind}: " + ", ".join(f"{k} {short(v)}" for k, v in rest.items()))
    return "\n".join(lines)


def show(text):
    """The line of progress, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r{text:<50}\r", end="", file=sys.stderr, flush=True)


def measure(lab, rows, rounds, seconds):
    for row in rows:
        for number in range(rounds):
            for kind in (OURS, KERNEL):
                lab.seed = number + 1
                show(f"{row.name}: round {number + 1} of {rounds}, {kind}")
                try:
                    numbers = row.measure(lab, kind, seconds)
                except LabError as error:
                    row.failed = str(error)
                    break
                if numbers is None:
                    row.skipped = "weir_impair_relay is not built"
                    break
                if numbers:
                    row.rounds[kind].append(numbers)
            if row.skipped or row.failed:
                break
    show("")


def document(rows, rounds, seconds):
    return {"kernel": os.uname().release, "cores": os.cpu_count(), "load": os.getloadavg()[0],
            "rounds": rounds, "seconds": seconds,
            "rows": [{"row": row.name, "target": row.target, "skipped": row.skipped,
                      "failed": row.failed,
                      "met": None if row.skipped else row.passed(), "ours": row.rounds[OURS],
                      "kernel": row.rounds[KERNEL]} for row in rows]}


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    names = [row.name for row in ROWS]
    parser.add_argument("--rounds", type=int, default=5, help="of each row and kind")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round")
    parser.add_argument("--quick", action="store_true", help="two rounds of one second")
    parser.add_argument("--rows", default=",".join(names), help=f"of {', '.join(names)}")
    parser.add_argument("--nice", type=int, default=0,
                        help="of all peers; below zero on a machine that does other things too")
    parser.add_argument("--json", type=pathlib.Path, help="everything, into this file")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 2, 1.0
    unknown = set(arguments.rows.split(",")) - set(names)
    if unknown:
        parser.error(f"no row is called {', '.join(sorted(unknown))}")
    return arguments


def main():
    arguments = parse()
    if os.geteuid() != 0:
        sys.exit("run.py needs root, because it makes network namespaces")
    rows = [row for row in ROWS if row.name in arguments.rows.split(",")]
    try:
        with StackLab("stacklab") as lab:
            lab.nice = arguments.nice
            lab.prepare()
            measure(lab, rows, arguments.rounds, arguments.seconds)
    except KeyboardInterrupt:
        print("\ninterrupted; what has been measured so far:", file=sys.stderr)
    except LabError as error:
        sys.exit(f"run.py: {error}")
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(document(rows, arguments.rounds, arguments.seconds),
                                             indent=1) + "\n")
    return 0 if all(row.skipped or row.passed() for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

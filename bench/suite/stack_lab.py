"""Our TCP stack beside the kernel's, under the same load: the laboratory, and a turn of each row.

A server on core 0, a client on core 1, each in a network namespace of its own, joined by a veth. In the
turns of ours both ends are AF_XDP ports of stack_host; in the kernel's they are devices as Linux makes
them, with all offloads, under kernel_peer with one epoll thread each.
"""

import contextlib
import json
import pathlib
import resource
import subprocess
import threading
import time

import programs
import weirlab
from group import BenchLab
from programs import BENCH
from rows import WEIR
from weirlab import ROOT, LabError, run, wait_until

SERVER, CLIENT = "server", "client"
SERVER_CORE, CLIENT_CORE = 0, 1
OURS, KERNEL = WEIR, "kernel"
# Of each kind of host: the devices on its ends, and their addresses.
DEVICES = {OURS: ("x0", "x1"), KERNEL: ("k0", "k1")}
NET = {OURS: "10.98.0", KERNEL: "10.99.0"}
PORT, PORTS = 9000, 16
IDLE = 100_000
FLOOD_PER_S = 200_000
SENT_PER_S = 225_000  # what is missed is not caught up with
LEGITIMATE_PER_S = 1000
FAILED_MAX = 0.001  # of operations, where failing is not what is measured
IMPAIR = weirlab.BUILD / "tests" / "lab" / "weir_impair_relay"
CUBIC = ("--congestion", "cubic")  # whatever this machine's default is


class StackLab(BenchLab):
    """Two hosts, two veths, and the programs of one round."""

    settings = (*BenchLab.settings, "net.ipv4.tcp_max_tw_buckets=65536")
    seed = 1  # of what the relay loses; one for both kinds in a round

    def prepare(self):
        programs.need(BENCH / "stack_host", BENCH / "kernel_peer", IMPAIR,
                      weirlab.BUILD / "tests" / "lab" / "flood.bpf.o")
        for host in (SERVER, CLIENT):
            self.add_host(host)
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

    @contextlib.contextmanager
    def server(self, kind, role, *options, **places):
        name = f"server-{kind}"
        (self.directory / f"{name}.log").unlink(missing_ok=True)
        options = ("--port", PORT, "--ports", PORTS, *options)
        self.start(name, SERVER, *self.words(kind, SERVER, role, SERVER_CORE, options, **places))
        wait_until(f"{name} to listen", lambda: self.alive(name) and '"ready"' in self.log(name), 30)
        try:
            yield self.processes[name].pid
        finally:
            self.stop(name)

    def client(self, kind, role, *options, on_open=None, timeout=60, peer=None, may_fail=False, **places):
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
        if report["failures"] > FAILED_MAX * max(report["operations"], 1) and not may_fail:
            raise LabError(f"{kind} {role}: {report['failures']} failed, {report['operations']} did not")
        return report


def slab_mb():
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Slab:"):
            return int(line.split()[1]) / 1024
    return 0.0


# ---- rows: one round of one kind, as numbers ----------------------------------------------------


def round_rr64(lab, kind, seconds):
    with lab.server(kind, "echo"):
        report = lab.client(kind, "rr", "--connections", 64, "--seconds", seconds)
    return {"rate": report["rate_per_s"]}


def round_latency1(lab, kind, seconds, is_polling_too=True):
    with lab.server(kind, "echo"):
        report = lab.client(kind, "rr", "--connections", 1, "--seconds", seconds)
    numbers = {"p50": report["p50_us"]}
    if kind == KERNEL and is_polling_too:  # a kernel can poll too: both sides without sleep in epoll_wait
        with lab.server(kind, "echo", "--poll"):
            polling = lab.client(kind, "rr", "--connections", 1, "--seconds", seconds, "--poll")
        numbers["polling_p50"] = polling["p50_us"]
    return numbers


def round_crr(lab, kind, seconds):
    with lab.server(kind, "echo"):
        report = lab.client(kind, "crr", "--connections", 64, "--seconds", seconds)
    return {"rate": report["rate_per_s"]}


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
    numbers = {}
    with lab.server(kind, "echo", *size):
        alone = lab.client(kind, "rr", "--connections", 64, "--seconds", seconds)
    with lab.server(kind, "echo", *size) as server:
        before = weirlab.resident_kb(server) / 1024
        slab = slab_mb()

        def on_open(client):
            del client
            numbers["server_mb"] = weirlab.resident_kb(server) / 1024 - before
            # Both ends of every connection are in it; and there may be fewer of them.
            numbers["kernel_mb"] = (slab_mb() - slab) / 2 * IDLE / idle

        beside = lab.client(kind, "rr", "--connections", 64, "--idle", idle, "--seconds", seconds,
                            "--warm-up", 1000, *size, on_open=on_open)
    return numbers | {"alone": alone["rate_per_s"], "beside": beside["rate_per_s"],
                      "kept": beside["rate_per_s"] / alone["rate_per_s"]}


def round_synflood(lab, kind, seconds):
    """Legitimate connects of kernel sockets, 1,000 a second, amid a flood from other sources."""
    pins = lab.pins / "flood"
    if not pins.exists():
        pins.mkdir(parents=True)
        run("bpftool", "prog", "loadall", weirlab.BUILD / "tests" / "lab" / "flood.bpf.o", pins,
            "pinmaps", pins)
    seconds = max(seconds, 2)
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
            stack.enter_context(lab.server(kind, "echo", "--gateway", f"{NET[KERNEL]}.2",
                                           "--buffer-kb", 64, address=address))
            flood = lab.start("flood", CLIENT, "taskset", "-c", CLIENT_CORE, "python3",
                              ROOT / "tests" / "lab" / "flood_sender.py", pins,
                              "x1" if kind == OURS else "k1", lab.mac(SERVER, device), f"{NET[KERNEL]}.1", PORT,
                              SENT_PER_S, seconds + 4)
            stack.callback(lab.stop, "flood")
            time.sleep(0.5)
            # By number: the client waits until each has worked or has failed.
            report = lab.client(KERNEL, "crr", "--rate", LEGITIMATE_PER_S, "--count",
                                int(LEGITIMATE_PER_S * seconds), "--connections", 8000, may_fail=True)
            flood.wait(30)
    finally:
        if kind == KERNEL:
            lab.run_in(SERVER, "bpftool", "net", "detach", "xdpdrv", "dev", "k0", check=False)
    log = lab.directory / "flood.log"
    sent = json.loads(log.read_text().splitlines()[-1])
    log.unlink()
    return {"succeeded": report["operations"] / report["attempts"],
            "flood_per_s": sent["sent"] / sent["seconds"]}


def round_lossy(lab, kind, seconds, delay_ms, loss_percent):
    """One sender, ours or the kernel's, to a kernel sink behind a link with delay and loss."""
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

"""weir bench tcp: our TCP stack beside the kernel's on a veth, and by itself in memory."""

import programs
import stack_lab as lab_of
from group import LabGroup
from rows import WEIR, Row, Series
from stack_lab import FLOOD_PER_S, IDLE, KERNEL, OURS, StackLab

BOTH = (OURS, KERNEL)


def comparison(id, what, unit, key, target, more=True):
    return Row(f"tcp.{id}", what, unit, key, (KERNEL,), target, more)


def own(id, what, unit, key, target, more=True, **peer):
    return Row(f"tcp.{id}", what, unit, key, target=target, more=more, **peer)


def in_memory(seconds):
    """Both ends over a ring in memory, two cores; and what the receiver alone pays."""
    def measure(_kind):
        rows = programs.google_benchmark("tcp_bench", "between_cores|receive_", seconds, cores="0,1")
        pick = lambda part: next(row for name, row in rows.items() if part in name)  # noqa: E731
        return {WEIR: {"rr": pick("request_reply/64")["items_per_second"],
                       "crr": pick("connect_close/64")["items_per_second"],
                       "receive": pick("receive_segment/bytes:1/")["ns_per_segment"],
                       "receive_frame": pick("receive_frame/bytes:1448")["ns_per_segment"]}}
    return measure


MEMORY_ROWS = [
    own("ring_rr", "64-byte requests, 256-byte replies over a ring in memory, a core a side", "1/s", "rr",
        ">= 1500000"),
    own("ring_crr", "connect, request, close over the same ring", "1/s", "crr", ">= 300000"),
    own("receive", "an in-order segment, TCP alone", "ns", "receive", "<= 120", more=False),
    own("receive_frame", "a frame of 1448 bytes with both checksums", "ns", "receive_frame", "", more=False)]


class Group(LabGroup):
    """Two hosts with two cables, and both stacks on them by turns."""

    name = "tcp"
    setup_s = 0.5

    @staticmethod
    def make_lab():
        return StackLab("stacklab")

    def __init__(self, quick):
        self.quick = quick
        turn = 0.25 if quick else 2.0
        ours_or_both = (OURS,) if quick else BOTH  # the kernel's take as long again
        self.series = [
            self.turns("rr64", lab_of.round_rr64, turn, 0.5, [
                comparison("rr64", "64-byte requests, 256-byte replies, 64 connections", "1/s", "rate",
                           ">= 2.4x")]),
            self.turns("latency1", lambda *a: lab_of.round_latency1(*a, is_polling_too=not quick), turn,
                       0.5 if quick else 1.8, [
                own("latency1", "the same, one connection: p50, polling", "us", "p50", "<= 8", more=False),
                comparison("latency1_ratio", "the same beside the kernel's", "us", "p50", "", more=False),
                own("latency1_polling", "the same beside a kernel that polls too", "us", "p50", "", more=False,
                    peers=(KERNEL,), peer_key="polling_p50")]),
            self.turns("crr", lab_of.round_crr, turn, 0.5, [
                comparison("crr", "connect, request, close, 64 at a time", "1/s", "rate", ">= 3.5x")]),
            self.turns("bulk", lab_of.round_bulk, turn, 0.6, [
                own("bulk", "one flow at MTU 1500", "Gbit/s", "gbit", ">= 3.5"),
                comparison("bulk_ratio", "the same beside the kernel's segments of 64 KB, which never become "
                           "packets here", "Gbit/s", "gbit", "")]),
            self.turns("idle", lab_of.round_idle100k, turn, 4, [
                own("idle_memory", f"resident memory of {IDLE:,} idle connections", "MB", "server_mb", "<= 100",
                    more=False, peers=(KERNEL,), peer_key="kernel_mb"),
                own("idle_rate", "the rate of 64 active ones beside them, over without", "x", "kept", ">= 0.9",
                    peers=(KERNEL,))], kinds=ours_or_both, once=quick),
            self.turns("synflood", lab_of.round_synflood, 2 if quick else 5, 4.5, [
                own("synflood", f"legitimate connects that succeed amid {FLOOD_PER_S:,} SYNs a second", "x",
                    "succeeded", ">= 0.99", peers=(KERNEL,)),
                own("synflood_rate", "SYNs a second meanwhile", "1/s", "flood_per_s", f">= {FLOOD_PER_S}")],
                kinds=ours_or_both, once=quick),
            self.lossy("lossy20", 20, 1.0),
            self.lossy("lossy100", 100, 0.1),
            Series("memory", (WEIR,), in_memory(0.05 if quick else 0.5), MEMORY_ROWS, 2.5 if quick else 12,
                   needs_hosts=False),
        ]

    def turns(self, name, act, turn, extra_s, rows, kinds=BOTH, once=False):
        return Series(name, kinds, lambda kind: {kind: act(self.lab, kind, turn)}, rows, turn + extra_s, once)

    def lossy(self, name, delay_ms, loss_percent):
        seconds = 1 if self.quick else 10

        def measure(kind):
            self.lab.seed = len(series.rounds)  # the same losses for both kinds of a round
            return {kind: lab_of.round_lossy(self.lab, kind, seconds, delay_ms, loss_percent)}
        rows = [comparison(name, f"one flow over {delay_ms} ms with {loss_percent:g} % loss, beside Linux CUBIC",
                           "Mbit/s", "mbit", ">= 0.9x")]
        series = Series(name, BOTH, measure, rows, seconds + 2.5, once=self.quick)
        return series

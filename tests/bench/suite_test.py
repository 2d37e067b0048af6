#!/usr/bin/env python3
"""The arithmetic and the words of `weir bench`, without measuring anything: medians, ratios and spreads of rounds,
verdicts, comparisons, reports."""

import contextlib
import io
import json
import math
import os
import pathlib
import random
import re
import signal
import statistics
import sys
import tempfile
import threading
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "suite"))
import checks  # noqa: E402 the path comes first
import compare  # noqa: E402
import control  # noqa: E402
import group  # noqa: E402
import interrupts  # noqa: E402
import l4  # noqa: E402
import l7  # noqa: E402
import plots  # noqa: E402
import report  # noqa: E402
import scaling  # noqa: E402
import services  # noqa: E402
import table  # noqa: E402
import tcp  # noqa: E402
from progress import Progress, duration  # noqa: E402
from programs import LabError, weirlab  # noqa: E402
from rows import CLIENT_BOUND, WEIR, Row, Series, Target, spread_of  # noqa: E402
from run import Run  # noqa: E402


def rounds(*pairs, peer="peer"):
    return [{WEIR: {"rate": mine}, peer: {"rate": other}} for mine, other in pairs]


def result(id="a.b", value=10.0, ratio=2.0, spread=(1.9, 2.1), more=True, samples=None, **others):
    if samples is None:
        samples = [(ratio or value or 0) * factor for factor in (0.99, 1, 1.01)]
    return {"id": id, "what": "something", "value": value, "unit": "1/s", "reference": "peer" if ratio else None,
            "reference_value": 5.0 if ratio else None, "ratio": ratio, "spread": list(spread) if spread else None,
            "target": None, "verdict": None, "more_is_better": more, "rounds": len(samples), "samples": samples,
            "failed": None, "bound": [], "others": {}} | others


class Rows(unittest.TestCase):

    def test_a_ratio_is_the_median_of_the_rounds_ratios(self):
        row = Row("a.b", "w", "1/s", "rate", ("peer",), ">= 2x")
        got = row.document(rounds((10, 5), (30, 10), (8, 8)))
        self.assertEqual((got["value"], got["reference_value"], got["ratio"]), (10, 8, 2))
        self.assertEqual(got["samples"], [2, 3, 1])
        self.assertEqual((got["verdict"], got["rounds"]), ("met", 3))

    def test_the_spread_is_where_another_median_is_to_be_expected(self):
        self.assertIsNone(spread_of([2.0], True))
        low, high = spread_of([1.0, 2.0, 4.0], True)  # log 2 apart: 4.303 * log 2 * sqrt(2.8 / 3)
        self.assertAlmostEqual(high / 2, 2 ** (4.303 * (2.8 / 3) ** 0.5))
        self.assertAlmostEqual(low * high, 4)
        self.assertEqual(spread_of([10, 10, 10], False), [10, 10])
        self.assertEqual(spread_of([1, 10, 19], False)[0], 0)  # of what cannot be below zero
        self.assertLess(spread_of([-1, 10, 19], False)[0], -1)
        self.assertLess(spread_of([1e-9, 1e9], True)[1], 1e60)

    def test_medians_of_other_runs_are_within_the_spread_19_times_of_20(self):
        chance = random.Random(1)

        def run(rounds):
            return [math.exp(chance.gauss(0.5, 0.1)) for _ in range(rounds)]
        for rounds in (3, 5, 9):
            within = 0
            for _ in range(2000):
                low, high = spread_of(run(rounds), True)
                within += low <= statistics.median(run(rounds)) <= high
            self.assertAlmostEqual(within / 2000, 0.95, delta=0.02)

    def test_a_miss_says_by_how_much_of_the_target(self):
        row = Row("a.b", "w", "1/s", "rate", ("peer",), ">= 4x")
        got = row.document(rounds((10, 5)))
        self.assertEqual((got["verdict"], got["missed_by"]), ("missed", 0.5))
        self.assertEqual(table.verdict(got), "MISSED by 50 %")

    def test_the_reference_is_who_does_best(self):
        numbers = [{WEIR: {"ms": 4}, "slow": {"ms": 9}, "fast": {"ms": 5}}]
        less = Row("a.b", "w", "ms", "ms", ("slow", "fast"), more=False).document(numbers)
        self.assertEqual((less["reference"], less["others"]), ("fast", {"slow": 9}))
        more = Row("a.b", "w", "ms", "ms", ("slow", "fast")).document(numbers)
        self.assertEqual(more["reference"], "slow")

    def test_targets_of_values_need_no_reference(self):
        row = Row("a.b", "w", "us", "rate", (), "<= 8", more=False)
        self.assertEqual(row.document([{WEIR: {"rate": 8}}])["verdict"], "met")
        self.assertEqual(row.document([{WEIR: {"rate": 8.1}}])["verdict"], "missed")

    def test_what_the_client_limits_is_not_held_against_anybody(self):
        def numbers(mine, other, bound):
            return [{WEIR: {"rate": mine, CLIENT_BOUND: bound == WEIR}, "peer": {"rate": other,
                                                                                 CLIENT_BOUND: bound == "peer"}}]
        row = Row("a.b", "w", "1/s", "rate", ("peer",), ">= 2x")
        self.assertEqual(row.document(numbers(10, 8, WEIR))["verdict"], "client-bound")
        self.assertEqual(row.document(numbers(10, 8, "peer"))["verdict"], "missed")
        self.assertEqual(row.document(numbers(10, 4, "peer"))["verdict"], "client-bound")
        self.assertEqual(row.document(numbers(10, 4, WEIR))["verdict"], "met")

    def test_a_figure_that_the_client_bounds_is_marked_without_a_target_too(self):
        row = Row("a.b", "w", "1/s", "rate", ("peer",))
        numbers = [{WEIR: {"rate": 1}, "peer": {"rate": 1, CLIENT_BOUND: True}}]
        got = row.document(numbers)
        self.assertEqual((got["verdict"], got["bound"]), ("client-bound", ["peer"]))

    def test_a_difference_below_zero_is_noise_and_no_ratio(self):
        row = Row("a.b", "w", "us", "rate", ("peer",), "<= 0.3x", more=False)
        got = row.document(rounds((800, -20), (700, -10), (900, 4000)))
        self.assertEqual((got["ratio"], got["verdict"]), (None, None))
        self.assertEqual(table.verdict(got), "not comparable")

    def test_ratios_pair_what_was_measured_in_the_same_round(self):
        row = Row("a.b", "w", "1/s", "rate", ("peer",))
        got = row.ratios([{WEIR: {"rate": 9}}, {WEIR: {"rate": 10}, "peer": {"rate": 5}},
                          {"peer": {"rate": 1}}], "peer")
        self.assertEqual(got, [2])

    def test_what_was_not_measured_has_no_verdict(self):
        got = Row("a.b", "w", "1/s", "rate", ("peer",), ">= 2x").document([], "nginx did not start")
        self.assertEqual((got["value"], got["verdict"], got["failed"]), (None, None, "nginx did not start"))
        self.assertIn("FAILED", table.text([got]))
        self.assertIn("nginx did not start", table.text([got]))

    def test_targets_are_written_in_one_way(self):
        for text in ("> 3x", ">= x", "3", ">= 3 x", "~ 3"):
            with self.subTest(text=text), self.assertRaises(ValueError):
                Target(text)


class Turns(unittest.TestCase):

    def test_contenders_alternate_and_who_begins_changes(self):
        series = Series("s", ("a", "b", "c"), None, [], 1)
        order = [kind for number in range(3) for kind in series.round(number)]
        self.assertEqual(order, ["a", "b", "c", "b", "c", "a", "c", "a", "b"])

    def test_a_round_is_finished_once_all_have_had_their_turn(self):
        series = Series("s", ("a", "b"), None, [], 1)
        seen = []
        series.finish_round = lambda numbers: seen.append(sorted(numbers))
        for number in range(2):
            for kind in series.round(number):
                series.rounds[-1][kind] = {}
        self.assertEqual(seen, [["a", "b"], ["a", "b"]])

    def test_what_is_left_follows_how_the_plan_has_fared(self):
        progress = Progress(100)
        self.assertEqual(progress.left_s(), 100)
        progress.advance(50)
        progress.began -= 100  # it took twice as long as planned
        self.assertAlmostEqual(progress.left_s(), 100, delta=1)
        progress.skip(50)  # of what failed
        self.assertAlmostEqual(progress.left_s(), 0, delta=1)
        self.assertEqual((duration(59.9), duration(61)), ("59 s", "1 min 01 s"))

    def test_nobody_has_to_be_told_how_far_it_is(self):
        class Full(io.StringIO):
            def write(self, text):
                raise OSError(28, "No space left on device")
        Progress(100, Full()).show("a", "b")


def number(value):
    return lambda kind: {kind: {"rate": value}}


def series_of(name, measure, **options):
    return Series(name, (WEIR,), measure, [Row(f"g.{name}", "w", "1/s", "rate")], 1, **options)


class Hosts(group.Group):
    """Of a group, without any."""

    name = "g"
    setup_s = 1.0

    def __init__(self, series, fails=(), died=()):
        self.series, self.fails, self.died, self.made = list(series), fails, died, 0

    def __enter__(self):
        self.made += 1
        if self.made in self.fails:
            raise LabError("no room")
        return self

    def why(self):
        return "proxy has ended" if self.made in self.died else None


class Interrupts(unittest.TestCase):

    def test_one_that_comes_while_something_is_taken_down_comes_when_that_is_done(self):
        done, other = [], threading.Event()
        threading.Thread(target=other.wait, daemon=True).start()  # any thread may be the one that is hit
        for number in weirlab.INTERRUPTS:
            before = signal.signal(number, interrupts.interrupt)
            self.addCleanup(signal.signal, number, before)
        self.addCleanup(setattr, interrupts, "was_interrupted", False)
        with self.assertRaises(KeyboardInterrupt):
            with weirlab.undisturbed():
                os.kill(os.getpid(), signal.SIGQUIT)
                done.append(1)
        other.set()
        self.assertEqual((done, interrupts.was_interrupted), ([1], True))
        with self.assertRaises(KeyboardInterrupt):  # where something else has failed because of it
            interrupts.check()
        os.kill(os.getpid(), signal.SIGINT)  # another one changes nothing


class Runs(unittest.TestCase):

    def test_quick_is_planned_within_three_minutes(self):
        self.assertLess(Run(True, 0).progress.planned_s, 180)

    def run_of(self, hosts, rounds=3):
        made = Run(True, rounds)
        made.groups = [hosts]
        made.progress = Progress(made.planned_s(hosts), io.StringIO())
        with contextlib.redirect_stderr(io.StringIO()):
            made.measure()
        self.assertAlmostEqual(made.progress.planned_s, made.progress.done_s, delta=1e-6)
        return {row["id"]: row for row in made.documents()}

    def test_each_round_is_everything_once_on_hosts_of_its_own(self):
        order = []
        hosts = Hosts(series_of(name, lambda kind, n=name: order.append(n) or {kind: {"rate": 1}}, once=name == "c")
                      for name in "abc")
        rows = self.run_of(hosts)
        self.assertEqual("".join(order), "abcabab")
        self.assertEqual((hosts.made, rows["g.a"]["rounds"], rows["g.c"]["rounds"]), (3, 3, 1))

    def test_hosts_that_cannot_be_made_fail_only_what_needs_them(self):
        hosts = Hosts([series_of("a", number(1)), series_of("b", number(2), needs_hosts=False)], fails=(2,))
        rows = self.run_of(hosts)
        self.assertEqual((rows["g.a"]["failed"], rows["g.b"]["failed"], rows["g.b"]["rounds"]), ("no room", None, 3))
        self.assertEqual(hosts.made, 2)

    def test_a_daemon_that_has_ended_is_what_series_failed_of(self):
        rows = self.run_of(Hosts([series_of("a", number(1)), series_of("b", number(2))], died=(1,)))
        self.assertEqual({row["failed"] for row in rows.values()}, {"proxy has ended"})

    def test_one_failure_fails_the_row_and_no_other(self):
        rows = self.run_of(Hosts([series_of("a", lambda kind: {}[kind]), series_of("b", number(2))]))
        self.assertEqual((rows["g.a"]["failed"], rows["g.b"]["failed"]), ("KeyError: 'weir'", None))

    def test_words_that_name_no_row_are_refused(self):
        for groups, rows, complaint in (((), ("l7.https_*", "tcp.cr"),
                                         "--rows tcp.cr: no row has such an id; did you mean tcp.crr"),
                                        (("l4",), ("tcp.crr",), "is of tcp, and only l4 was asked for"),
                                        ((), ("zzz",), "they are in bench/README.md")):
            with self.subTest(rows=rows), self.assertRaisesRegex(checks.BadWords, re.escape(complaint)):
                Run(True, 1, groups, rows)


class Comparisons(unittest.TestCase):

    def judge(self, before, after):
        return compare.judge(before, after)[0]

    def test_within_the_noise_of_both_nothing_has_changed(self):
        self.assertEqual(self.judge(result(), result(ratio=1.81)), "same")  # 10 % at least
        wide = [1.7, 2.0, 2.3]  # a round is 15 % off, so two medians may be two thirds apart
        self.assertEqual(self.judge(result(samples=wide), result(ratio=1.3)), "same")
        self.assertEqual(self.judge(result(), result(ratio=1.3)), "worse")
        self.assertEqual(self.judge(result(), result(ratio=1.3, samples=[1.1, 1.3, 1.5])), "same")
        self.assertEqual(self.judge(result(samples=wide), result(ratio=4.5)), "better")

    def test_medians_without_a_change_are_the_same_99_times_of_100(self):
        chance = random.Random(2)

        def row(rounds, factor=1.0):
            samples = [factor * math.exp(chance.gauss(0.5, 0.1)) for _ in range(rounds)]
            return result(ratio=statistics.median(samples), samples=samples)
        for before, after in ((3, 3), (9, 3), (5, 5)):
            verdicts = [self.judge(row(before), row(after)) for _ in range(3000)]
            self.assertAlmostEqual(verdicts.count("same") / 3000, 0.99, delta=0.007)
        found = [self.judge(row(9), row(3, 0.7)) for _ in range(1000)]
        self.assertGreater(found.count("worse"), 850)  # what is lost by a third is seen

    def test_what_should_be_none_has_a_direction_too(self):
        none, some = (result(value=value, ratio=None, more=False, samples=[value] * 3) for value in (0, 5))
        self.assertEqual([self.judge(*pair) for pair in ((none, none), (none, some), (some, none))],
                         ["same", "worse", "better"])

    def test_few_rounds_do_not_know_their_noise(self):
        self.assertEqual(self.judge(result(samples=[2.0, 2.0]), result(ratio=0.1)), "too few rounds")
        before = {"rows": [result("a.once", samples=[2.0]), result("a.gone"), result("a.b")]}
        check = compare.Check(before, "x", ["a.once", "a.gone", "a.b"])
        check.first({"rows": [result("a.once"), result("a.b")]})
        self.assertIn("not compared: a.once, a.gone", check.text({}))

    def test_beyond_it_the_direction_counts(self):
        less = result(more=False)
        self.assertEqual(self.judge(result(), result(ratio=1.2)), "worse")
        self.assertEqual(self.judge(result(), result(ratio=3.0)), "better")
        self.assertEqual(self.judge(less, result(ratio=3.0, more=False)), "worse")
        self.assertEqual(self.judge(less, result(ratio=1.2, more=False)), "better")

    def test_only_ratios_fail_a_run(self):
        check = compare.Check({"rows": [result("a.ratio"), result("a.value", ratio=None), result("a.fine"),
                                        result("l4.floor_line")]}, "x",
                              ["a.ratio", "a.value", "a.fine", "l4.floor_line"])
        after = {"rows": [result("a.ratio", ratio=1.0), result("a.value", value=1.0, ratio=None),
                          result("a.fine", ratio=2.05), result("l4.floor_line", ratio=0.1)], "machine": "m"}
        self.assertEqual(check.first(after), ["a.ratio"])
        check.again(after["rows"])
        self.assertIn("2 ratios compared with x: 1 worse by more than the noise, twice:\n"
                      "  a.ratio: 2x before, 1x now (-50.0 %)", check.text(after))
        self.assertIn("x is of another machine", check.text(after))

    def test_what_is_worse_has_to_be_so_twice(self):
        def checked(*again):
            check = compare.Check({"rows": [result()]}, "x", ["a.b"])
            check.first({"rows": [result(ratio=1.0)]})
            check.again(again)
            return list(check.worse), check.lost
        self.assertEqual(checked(result(ratio=1.1)), (["a.b"], []))
        self.assertEqual(checked(result()), ([], []))
        for again in ((), (result(value=None, ratio=None, samples=[]),), (result(ratio=1.0, samples=[1.0]),)):
            self.assertEqual(checked(*again), ([], ["a.b"]))

    def test_the_baseline_can_be_held_against(self):
        baseline = compare.read(ROOT / "bench" / "baseline.json")
        self.assertEqual((baseline["quick"], baseline["rounds"]), (True, 9))
        names = {row.id for row in all_rows()}
        self.assertEqual({row["id"] for row in baseline["rows"]} - names, set())
        self.assertGreater(len(compare.Check(baseline, "x", names).rows), 40)
        compare.read(ROOT / "bench" / "results.json")

    def test_rows_that_only_one_has_are_named(self):
        text = compare.text({"rows": [result("a.gone"), result()]}, {"rows": [result("a.new"), result()]}, ("a", "b"))
        self.assertIn("only before: a.gone", text)
        self.assertIn("only after: a.new", text)

    def test_what_cannot_be_compared_is_refused(self):
        for before, after, complaint in (({"rows": [result("a.gone")]}, {"rows": [result()]}, "no row is in both"),
                                         ({"rows": [result()], "quick": True}, {"rows": [result()], "quick": False},
                                          "one was measured with --quick")):
            with self.subTest(complaint), self.assertRaisesRegex(compare.BadResults, f"a and b: .*{complaint}"):
                compare.text(before, after, ("a", "b"))

    def test_a_check_that_can_compare_nothing_is_refused(self):
        for before in ([], [result(samples=[2.0])], [result("a.other")]):
            with self.subTest(before=before), self.assertRaisesRegex(checks.BadWords, "has no ratio of 3 rounds"):
                checks.check_against({"rows": before}, "x", ["a.b"])
        check = checks.check_against({"rows": [result(), result("a.other")]}, "x", ["a.b"])
        check.first({"rows": [result()]})
        self.assertNotIn("not compared", check.text({}))  # nobody has asked for a.other

    def test_what_was_not_measured_is_not_judged(self):
        self.assertEqual(self.judge(result(), result(value=None, ratio=None, spread=None, samples=[])), "not measured")
        self.assertEqual(self.judge(result(), result(ratio=None)), "not comparable")

    def test_files_that_are_no_results_are_refused_by_name(self):
        cases = {"": "not JSON", "[]": "has no list 'rows'", '{"rows": [{"id": "a"}]}': "row 0 has no 'value'",
                 '{"rows": [3]}': "row 0 has no 'id'", "[" * 100_000: "not JSON",
                 '{"rows": [], "versions": []}': "has 'versions' that are none",
                 '{"rows": [], "versions": {"weir": "\\ud800"}}': "has 'versions' that are none",
                 '{"rows": [], "machine": "\\u001b[31m"}': "has 'machine'", '{"rows": []}': "has 'quick' null",
                 '{"rows": [], "quick": "yes"}': "has 'quick' \"yes\"",
                 json.dumps({"rows": [result(), result()]}): "row 1 has the id of one before it, 'a.b'",
                 json.dumps({"rows": [result(samples=[1.0, 0.0])]}): "row 0 has a ratio that is not above zero",
                 json.dumps({"rows": [result(ratio=-1.0)]}): "row 0 has a ratio that is not above zero"}
        cases |= {json.dumps({"rows": [result() | {field: value}]}): f"row 0 has '{field}' {json.dumps(value)[:60]}"
                  for field, value in (("value", "abc"), ("ratio", "1.2"), ("ratio", True), ("ratio", float("nan")),
                                       ("ratio", 10 ** 400),
                                       ("samples", 3), ("samples", ["1"]), ("id", [1]), ("id", "\x1b[31m"), ("more_is_better", None))}
        with tempfile.TemporaryDirectory() as directory:
            for number, (text, complaint) in enumerate(cases.items()):
                path = pathlib.Path(directory) / f"{number}.json"
                path.write_text(text)
                with self.subTest(text=text), self.assertRaisesRegex(compare.BadResults, re.escape(complaint)) as got:
                    compare.read(path)
                self.assertIn(str(path), str(got.exception))
            for path in ("/dev/zero", directory):
                with self.assertRaisesRegex(compare.BadResults, "is no regular file of at most 64 MiB; expected what"):
                    compare.read(path)
            with self.assertRaisesRegex(compare.BadResults, "No such file"):
                compare.read(pathlib.Path(directory) / "nowhere")


def readme_lines():
    """A line for each row; families once: services.load_N, l7.https_proxied with its _25, _100 …"""
    lines = {}
    for row in all_rows():
        name, what = row.id, row.what
        if name.startswith("services."):
            name, what = re.sub(r"_\d+$", "_N", name), re.sub(r", [\d,]+ services$", "", what)
        if name.startswith("l7.") and re.search(r"_(25|rate|busy|core)$", name):
            continue
        what = what.replace("; 50 % of a core", "")
        lines.setdefault(name, f"| `{name}` | {what} | {row.unit} | {', '.join(row.peers)} | {row.target} |")
    return list(lines.values())


def all_rows():
    groups = (l4.Group(False), services.Group(False), tcp.Group(False), l7.Group(False), control.Group(False))
    return [row for group in groups for series in group.series for row in series.rows]


class Arithmetic(unittest.TestCase):

    def test_capacity_is_the_rate_over_the_share_of_a_core_times_the_quota(self):
        got = l7.turn(1000, 50, {"processor": 0.5})
        self.assertEqual((got["capacity"], got[CLIENT_BOUND]), (1000, False))
        got = l7.turn(1000, 50, {"processor": 0.25})
        self.assertEqual((got["capacity"], got[CLIENT_BOUND]), (2000, True))
        # A worker that polls has used its share, but not for work.
        self.assertTrue(l7.turn(1000, 50, {"processor": 0.5, "worker_busy": 0.6})[CLIENT_BOUND])

    def test_added_latency_is_beside_the_backend_of_the_same_round(self):
        numbers = {kind: {"p99_us": value} for kind, value in
                   (("direct", 100), (WEIR, 130), ("nginx", 200), ("haproxy", 90))}
        l7.add_p99(numbers)
        self.assertEqual([numbers[kind]["added_p99"] for kind in (WEIR, "nginx", "haproxy")], [30, 100, -10])

    def test_failures_of_clients_are_failures(self):
        good = "requests: 9 total, 9 started, 8 done, 8 succeeded, 0 failed, 0 errored\ntraffic: (9) data"
        self.assertEqual(l7.load.h2load_requests("p", good), 8)
        for text in (good.replace("0 failed", "1 failed"), good.replace("0 errored", "2 errored"),
                     good.replace("8 succeeded", "0 succeeded"), "nothing"):
            with self.subTest(text=text), self.assertRaises(LabError):
                l7.load.h2load_requests("p", text)
        with self.assertRaisesRegex(LabError, "with 9 bytes, not 37 each"):
            l7.load.h2load_requests("p", good, 37)
        good = "  100 requests in 2.00s, 1MB read"
        self.assertEqual(l7.load.wrk_rate("p", good), 50)
        for text in (good + "\n Non-2xx or 3xx responses: 1",
                     good + "\n Socket errors: connect 1, read 0, write 0, timeout 0"):
            with self.subTest(text=text), self.assertRaises(LabError):
                l7.load.wrk_rate("p", text)

    def test_scaling_adds_drivers_and_takes_sendto_away(self):
        self.assertAlmostEqual(scaling.packets_per_core(50), 1e7)
        self.assertAlmostEqual(scaling.line_rate(1226), 1e7)
        self.assertAlmostEqual(scaling.requests_per_core(5000, 0.5), 1 / (50e-6 + 180e-9))
        self.assertEqual((scaling.of_cores(100, 1), scaling.of_cores(100, 4)), (100, 340))
        self.assertIn("| 10 | 34 |", scaling.line("w", 10, 1000, 1))
        self.assertIn("| 10 | 20 | 20 |", scaling.line("w", 10, 20, 1))

    def test_rules_of_the_peers_have_every_service(self):
        made = services.Services("nft", 100)
        self.assertEqual(len(made.list), 102)
        for text, what in ((made.iptables(), "-A KUBE-SERVICES "), (made.nft(), " : goto service-")):
            self.assertEqual(text.count(what), 102)
        self.assertIn(made.list[made.changing][0], made.iptables())
        self.assertNotIn(f"name: s{made.changing},", made.yaml())  # by hand


class Reports(unittest.TestCase):

    def test_ids_are_one_rows_each_and_the_readme_says_what_they_are(self):
        names = [row.id for row in all_rows()]
        self.assertEqual(len(names), len(set(names)))
        path = ROOT / "bench" / "README.md"
        before, title, rest = path.read_text().partition("| id | what | unit | reference | target |\n")
        told, _, after = rest.partition("\n\n")
        wanted = "\n".join(["| --- | --- | --- | --- | --- |", *readme_lines()])
        if os.environ.get("WEIR_UPDATE_GOLDEN"):
            path.write_text(before + title + wanted + "\n\n" + after)
            told = wanted
        self.assertEqual(told, wanted)

    def test_every_finding_is_of_a_row(self):
        self.assertEqual(set(report.findings()) - {row.id for row in all_rows()}, set())

    def test_a_report_tells_who_wins_who_loses_and_what_bounds_it(self):
        rows = [result("l7.tls_connect", what="single", unit="requests/s", spread=None, samples=[2.0]),
                result("l7.https_direct", ratio=1.1, spread=(0.9, 1.3), what="even", unit="requests/s",
                       bound=["nginx"]),
                result("l7.http_proxied", ratio=1.5, spread=(1.4, 1.6), what="ahead", unit="requests/s"),
                result("l7.h2_proxied", ratio=0.5, spread=(0.4, 0.6), what="behind", target=">= 2x",
                       verdict="missed", missed_by=0.75, unit="requests/s"),
                result("services.ns_1", ratio=0.5, spread=(0.4, 0.6), more=False, what="cheaper", unit="ns"),
                result("services.ns_100", ratio=0.4, spread=(0.3, 0.5), more=False, what="cheaper", unit="ns"),
                result("l4.ack_hit", ratio=1.5, more=False, reference="floor", what="known", unit="ns",
                       target="<= 1.8x", verdict="met"),
                result("tcp.rr64", value=None, ratio=None, spread=None, failed="not built")]
        results = {"command": "weir bench", "date": "2026-11-29", "machine": "a, 2 CPUs, 3 MB", "kernel": "Linux 6",
                   "load": 0.1, "rounds": 5, "versions": {"weir": "1"}, "rows": rows}
        with tempfile.TemporaryDirectory() as directory:
            directory = pathlib.Path(directory) / "report"
            report.write(directory, results)
            text = (directory / "RESULTS.md").read_text()
            self.assertEqual(json.loads((directory / "results.json").read_text())["rows"], rows)
            for picture in re.findall(r"\(plots/([\w.]+)\)", text):
                self.assertIn("<svg", (directory / "plots" / picture).read_text())
            self.assertIn("(plots/services_ns.svg)", text)
            self.assertIn("not measured", (directory / "SCALING.md").read_text())
        ahead, behind = text.index("## Where Weir is ahead"), text.index("## Where Weir is behind")
        even = text.index("## Level, as far as the spread tells")
        self.assertTrue(even < text.index("`l7.https_direct`, even") < behind)
        self.assertIn("1.10 times as good; limited by the client: nginx", text)
        self.assertLess(text.index("## Measured once"), text.index("`l7.tls_connect`, single"))
        self.assertTrue(ahead < text.index("`services.ns_1`, cheaper") < even < behind
                        < text.index("`l7.h2_proxied`, behind"))
        self.assertNotIn("`l4.ack_hit`, known:", text[:text.index("## Targets")])  # a floor is no rival
        self.assertIn("target >= 2x: MISSED by 75 %", text)
        self.assertIn("### Proxied requests", text)
        self.assertIn("`tcp.rr64`: not built", text)

    def test_two_far_apart_are_so_in_numbers_that_can_be_printed(self):
        before, after = result(samples=[1e-90, 2.0, 1e90]), result(ratio=3.0)
        self.assertIn("same", compare.text({"rows": [before]}, {"rows": [after]}, ("a", "b")))

    def test_files_are_kept_together_or_not_at_all(self):
        with tempfile.TemporaryDirectory() as directory:
            directory = pathlib.Path(directory)
            (directory / "a").write_text("before")
            (directory / "a").chmod(0o640)
            (directory / "d").mkdir()
            for error, other in ((FileNotFoundError, "nowhere/b"), (IsADirectoryError, "d")):
                with self.assertRaises(error):
                    report.keep({directory / "a": "after", directory / other: "after"})
                self.assertEqual((directory / "a").read_text(), "before")
            (directory / "d").rmdir()
            (directory / "link").symlink_to("a")
            report.keep({directory / "link": "after", directory / "c": "new"})
            self.assertEqual(((directory / "a").read_text(), (directory / "c").read_text()), ("after", "new"))
            self.assertEqual((directory / "a").stat().st_mode & 0o777, 0o640)
            self.assertEqual({path.name for path in directory.iterdir()}, {"a", "link", "c"})

    def test_a_spread_that_says_nothing_is_not_printed(self):
        self.assertEqual(table.spread_text(result(spread=(0.01, 5))), "wide")
        self.assertEqual(table.spread_text(result(spread=(0.5, 5))), "0.5..5")
        self.assertEqual(table.spread_text(result(samples=[2.0], spread=None)), "once")

    def test_names_in_plots_are_quoted(self):
        self.assertEqual(plots.quoted("a'b"), "'a''b'")


if __name__ == "__main__":
    unittest.main()

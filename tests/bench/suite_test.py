#!/usr/bin/env python3
"""The arithmetic and the words of `weir bench`, without measuring anything: medians, ratios and spreads of rounds,
verdicts, comparisons, reports."""

import json
import os
import pathlib
import re
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "suite"))
import compare  # noqa: E402 the path comes first
import control  # noqa: E402
import l4  # noqa: E402
import l7  # noqa: E402
import plots  # noqa: E402
import report  # noqa: E402
import scaling  # noqa: E402
import services  # noqa: E402
import table  # noqa: E402
import tcp  # noqa: E402
from progress import Progress, duration  # noqa: E402
from programs import LabError  # noqa: E402
from rows import CLIENT_BOUND, WEIR, Row, Series, Target  # noqa: E402


def rounds(*pairs, peer="peer"):
    return [{WEIR: {"rate": mine}, peer: {"rate": other}} for mine, other in pairs]


def result(id="a.b", value=10.0, ratio=2.0, spread=(1.9, 2.1), more=True, **others):
    return {"id": id, "what": "something", "value": value, "unit": "1/s", "reference": "peer" if ratio else None,
            "reference_value": 5.0 if ratio else None, "ratio": ratio, "spread": list(spread) if spread else None,
            "target": None, "verdict": None, "more_is_better": more, "rounds": 3, "failed": None,
            "bound": [], "others": {}} | others


class Rows(unittest.TestCase):

    def test_a_ratio_is_the_median_of_the_rounds_ratios_and_the_spread_theirs(self):
        row = Row("a.b", "w", "1/s", "rate", ("peer",), ">= 2x")
        got = row.document(rounds((10, 5), (30, 10), (8, 8)))
        self.assertEqual((got["value"], got["reference_value"], got["ratio"]), (10, 8, 2))
        self.assertEqual(got["spread"], [1, 3])
        self.assertEqual((got["verdict"], got["rounds"]), ("met", 3))

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
        got = row.ratios([{WEIR: {"rate": 9}}, {WEIR: {"rate": 10}, "peer": {"rate": 5}}, {"peer": {"rate": 1}}], "peer")
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
        order = [kind for _, kind in series.turns(3)]
        self.assertEqual(order, ["a", "b", "c", "b", "c", "a", "c", "a", "b"])

    def test_a_round_is_finished_once_all_have_had_their_turn(self):
        series = Series("s", ("a", "b"), None, [], 1)
        seen = []
        series.finish_round = lambda numbers: seen.append(sorted(numbers))
        for _, kind in series.turns(2):
            series.rounds[-1][kind] = {}
        self.assertEqual(seen, [["a", "b"], ["a", "b"]])

    def test_what_is_left_follows_how_the_plan_has_fared(self):
        progress = Progress(100)
        self.assertEqual(progress.left_s(), 100)
        progress.advance(50)
        progress.began -= 100  # it took twice as long as planned
        self.assertAlmostEqual(progress.left_s(), 100, delta=1)
        self.assertEqual((duration(59.9), duration(61)), ("59 s", "1 min 01 s"))


class Comparisons(unittest.TestCase):

    def judge(self, before, after):
        return compare.judge(before, after)[0]

    def test_within_the_noise_that_was_recorded_nothing_has_changed(self):
        self.assertEqual(self.judge(result(), result(ratio=1.81)), "same")  # 10 % at least
        self.assertEqual(self.judge(result(spread=(1.5, 2.5)), result(ratio=1.1)), "same")
        # What is noisy now is no excuse.
        self.assertEqual(self.judge(result(), result(ratio=1.0, spread=(0.9, 2.2))), "worse")

    def test_one_round_does_not_know_its_noise(self):
        self.assertEqual(self.judge(result(rounds=1), result(ratio=0.1)), "too few rounds")
        before = {"rows": [result("a.once", rounds=1), result("a.gone")]}
        self.assertEqual(compare.unguarded(before, {"rows": [result("a.once")]}), ["a.once", "a.gone"])

    def test_beyond_it_the_direction_counts(self):
        self.assertEqual(self.judge(result(), result(ratio=1.2)), "worse")
        self.assertEqual(self.judge(result(), result(ratio=3.0)), "better")
        less = result(more=False)
        self.assertEqual(self.judge(less, result(ratio=3.0, more=False)), "worse")
        self.assertEqual(self.judge(less, result(ratio=1.2, more=False)), "better")

    def test_only_ratios_fail_a_run(self):
        before = {"rows": [result("a.ratio"), result("a.value", ratio=None, spread=(9, 11)), result("a.fine")]}
        after = {"rows": [result("a.ratio", ratio=1.0), result("a.value", value=1.0, ratio=None, spread=(1, 1)),
                          result("a.fine", ratio=2.05)]}
        self.assertEqual([old["id"] for old, _, _ in compare.regressions(before, after)], ["a.ratio"])
        self.assertIn("a.ratio: 2x before, 1x now (-50.0 %)", compare.regressions_text(
            compare.regressions(before, after), ["a.other"], "x"))

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
        interrupted = {"rows": [result()], "interrupted": True}
        self.assertIn(", interrupted\n", compare.text(interrupted, {"rows": [result()]}, ("a", "b")))

    def test_a_check_that_compares_nothing_is_none(self):
        self.assertEqual(compare.guarded({"rows": []}, {"rows": [result()]}), [])
        self.assertEqual(compare.guarded({"rows": [result(rounds=1)]}, {"rows": [result()]}), [])
        self.assertEqual(compare.guarded({"rows": [result()]}, {"rows": [result()]}), ["a.b"])

    def test_what_was_not_measured_is_not_judged(self):
        self.assertEqual(self.judge(result(), result(value=None, ratio=None, spread=None)), "not measured")
        self.assertEqual(self.judge(result(), result(ratio=None)), "not comparable")

    def test_files_that_are_no_results_are_refused_by_name(self):
        cases = {"": "not JSON", "[]": "has no list 'rows'", '{"rows": [{"id": "a"}]}': "row 0 has no 'value'",
                 '{"rows": [3]}': "row 0 has no 'id'", "[" * 100_000: "not JSON",
                 '{"rows": [], "versions": []}': "has 'versions' that are none"}
        cases |= {json.dumps({"rows": [result() | {field: value}]}): f"row 0 has '{field}' {json.dumps(value)[:60]}"
                  for field, value in (("value", "abc"), ("ratio", "1.2"), ("ratio", True), ("ratio", float("nan")),
                                       ("ratio", 10 ** 400), ("spread", [1]), ("spread", "ab"), ("rounds", "3"),
                                       ("id", [1]), ("id", "\x1b[31m"), ("more_is_better", None))}
        with tempfile.TemporaryDirectory() as directory:
            for number, (text, complaint) in enumerate(cases.items()):
                path = pathlib.Path(directory) / f"{number}.json"
                path.write_text(text)
                with self.subTest(text=text), self.assertRaisesRegex(compare.BadResults, re.escape(complaint)) as got:
                    compare.read(path)
                self.assertIn(str(path), str(got.exception))
            with self.assertRaisesRegex(compare.BadResults, "No such file"):
                compare.read(pathlib.Path(directory) / "nowhere")


def readme_lines():
    """A line for each row; families once: services.load_N, l7.https_proxied with its _25, _100 …"""
    lines = {}
    for row in all_rows():
        name, what = row.id, row.what
        if name.startswith("services."):
            name, what = re.sub(r"_\d+$", "_N", name), re.sub(r", [\d,]+ services$", "", what)
        if name.startswith("l7.") and re.search(r"_(25|100|rate|busy|core)$", name):
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
        for text in (good + "\n Non-2xx or 3xx responses: 1", good + "\n Socket errors: connect 1, read 0, write 0, timeout 0"):
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
        rows = [result("l7.https_direct", ratio=1.1, spread=(0.9, 1.3), what="even", unit="requests/s", bound=["nginx"]),
                result("l7.http_proxied", ratio=1.5, spread=(1.4, 1.6), what="ahead", unit="requests/s"),
                result("l7.h2_proxied", ratio=0.5, spread=(0.4, 0.6), what="behind", target=">= 2x", verdict="missed", missed_by=0.75,
                       unit="requests/s"),
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
        even = text.index("## Now ahead, now behind")
        self.assertTrue(even < text.index("`l7.https_direct`, even") < behind)
        self.assertIn("1.10 times as good; limited by the client: nginx", text)
        self.assertTrue(ahead < text.index("`services.ns_1`, cheaper") < even < behind < text.index("`l7.h2_proxied`, behind"))
        self.assertNotIn("`l4.ack_hit`, known:", text[:text.index("## Targets")])  # a floor is no rival
        self.assertIn("target >= 2x: MISSED by 75 %", text)
        self.assertIn("### Proxied requests", text)
        self.assertIn("`tcp.rr64`: not built", text)

    def test_names_in_plots_are_quoted(self):
        self.assertEqual(plots.quoted("a'b"), "'a''b'")


if __name__ == "__main__":
    unittest.main()

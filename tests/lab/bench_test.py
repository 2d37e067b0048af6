"""`weir bench` as its user has it: what it prints and keeps, that two runs can be compared, and that nothing is
left behind, also when it is stopped."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from labcase import *

WEIR_PROGRAM = BUILD / "tools" / "weir" / "weir"
PINS = pathlib.Path("/sys/fs/bpf/weir-bench")
# One series of each group, none of which takes long.
SOME = "l4.live_*,services.connects_1000,tcp.rr64,l7.https_proxied,control.maglev_build"
PROGRAM = re.compile(r"^prog_id:\s*(\d+)", re.M)
STARTED = "|".join((str(BUILD), "nginx", "haproxy", "nghttpd", "h2load", "wrk"))


def programs():
    """Those in the kernel that no process has open: the tests of the kernel run beside this one, and have theirs."""
    loaded = {program["id"] for program in json.loads(run("bpftool", "prog", "show", "-j").stdout)}
    for process in pathlib.Path("/proc").glob("[0-9]*/fdinfo"):
        with contextlib.suppress(OSError):  # it has just ended
            for opened in process.iterdir():
                with contextlib.suppress(OSError):  # it was just closed
                    loaded.difference_update(int(number) for number in PROGRAM.findall(opened.read_text()))
    return loaded


def what_is_there():
    """Of what a run makes: namespaces, programs, groups, pages, processes, directories."""
    pages = pathlib.Path("/proc/meminfo").read_text()
    return {"namespaces": set(run("ip", "netns", "list").stdout.splitlines()), "programs": programs(),
            "pins": {path.name for path in pathlib.Path("/sys/fs/bpf").iterdir()},
            "groups": {str(path) for path in pathlib.Path("/sys/fs/cgroup").glob("**/weir-bench-*")},
            "pages": {line for line in pages.splitlines() if line.startswith("HugePages_Free")},
            "processes": set(run("pgrep", "-f", STARTED, check=False).stdout.split()),
            "directories": {path.name for path in pathlib.Path(tempfile.gettempdir()).glob("*lab-*")}}


def client_runs():
    return run("pgrep", "-f", "h2load.* -c", check=False).stdout


def command_of(pid):
    return pathlib.Path(f"/proc/{pid}/cmdline").read_text()


class Bench(unittest.TestCase):

    def setUp(self):
        need_root()
        self.before = what_is_there()
        directory = tempfile.TemporaryDirectory(prefix="weirbench-")
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)

    def bench(self, *words, **options):
        return run(WEIR_PROGRAM, "bench", *words, check=False, timeout=240, **options)

    def left_behind(self):
        return {kind: new for kind, now in what_is_there().items() if (new := now - self.before[kind])}

    def assert_nothing_is_left(self):
        left = {}

        def is_clean():
            left.clear()
            left.update(self.left_behind())
            return not left

        # The kernel frees programs and pages a moment after the last process that had them.
        with contextlib.suppress(weirlab.LabError):
            wait_until("everything to be gone", is_clean, 15)
        self.assertEqual(left, {})

    def test_every_group_is_measured_shown_and_kept_and_nothing_stays(self):
        file, report = self.directory / "a.json", self.directory / "report"
        done = self.bench("--quick", "--rounds", "1", "--rows", SOME, "--json", file, "--report", report)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        rows = {row["id"]: row for row in json.loads(file.read_text())["rows"]}
        for name in ("l4.live_gue_64k", "services.connects_1000", "tcp.rr64", "l7.https_proxied",
                     "control.maglev_build"):
            self.assertIn(name, done.stdout)
            self.assertGreater(rows[name]["value"], 0)
        for name in ("services.connects_1000", "tcp.rr64", "l7.https_proxied"):
            row = rows[name]
            self.assertAlmostEqual(row["ratio"], row["value"] / row["reference_value"])
        self.assertEqual(rows["tcp.rr64"]["target"], ">= 2.4x")
        self.assertEqual(rows["tcp.rr64"]["verdict"], "met" if rows["tcp.rr64"]["ratio"] >= 2.4 else "missed")
        for part in ("RESULTS.md", "SCALING.md", "results.json", "plots/l7.svg", "plots/tcp.svg"):
            self.assertTrue((report / part).stat().st_size > 500, part)
        self.assert_nothing_is_left()
        same = self.bench("compare", file, file)
        self.assertEqual((same.returncode, same.stderr), (0, ""))
        self.assertRegex(same.stdout, r"(?m)^tcp\.rr64 .* too few rounds$")

    def test_stopped_in_the_middle_it_takes_everything_down_and_shows_what_it_has(self):
        # In the second laboratory, after the first was taken down; and twice, as the impatient do.
        file = self.directory / "never.json"
        for number in (signal.SIGINT, signal.SIGHUP):
            with self.subTest(signal=number.name), \
                    subprocess.Popen([WEIR_PROGRAM, "bench", "--rows", "l4.memory,l7.http_proxied", "--json", file],
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as bench:
                try:
                    wait_until("a client to run", client_runs, 60)
                    bench.send_signal(number)
                    time.sleep(0.2)
                    bench.send_signal(number)
                    out, err = bench.communicate(timeout=30)
                finally:
                    bench.kill()
                self.assertEqual(bench.returncode, 130, err)
                self.assertIn("interrupted; everything is taken down", err)
                self.assertIn("l7.http_proxied", out)
                self.assertRegex(out, r"(?m)^l4\.memory .* met$")
                self.assertFalse(file.exists())
                self.assert_nothing_is_left()

    def test_stopped_before_anything_is_measured_it_says_so(self):
        for delay in (0.05, 0.1, 0.2, 0.4):
            with self.subTest(delay=delay), \
                    subprocess.Popen([WEIR_PROGRAM, "bench", "--rows", "l4.memory"], stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True) as bench:
                wait_until("the suite", lambda: "suite" in command_of(bench.pid), 10)
                time.sleep(delay)
                bench.send_signal(signal.SIGINT)
                _, err = bench.communicate(timeout=30)
                self.assertEqual(bench.returncode, 130, err)
                self.assertIn("interrupted", err)
                self.assertNotIn("Traceback", err)
        self.assert_nothing_is_left()

    def test_killed_it_leaves_nothing_that_the_next_run_of_anything_does_not_remove(self):
        for rows, what in (("l7.http_proxied", client_runs), ("l4.live_*", PINS.exists)):
            with self.subTest(rows=rows), \
                    subprocess.Popen([WEIR_PROGRAM, "bench", "--rows", rows], stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL) as bench:
                try:
                    wait_until("it to be under way", what, 60)
                    second = self.bench("--rows", "l7.parser")
                    bench.send_signal(signal.SIGSTOP)  # so that it cannot take down what its children leave
                    run("pkill", "-KILL", "-x", "-P", str(bench.pid), "live_bench", check=False)
                finally:
                    bench.kill()
                self.assertEqual(second.returncode, 1)
                self.assertIn("another weir bench is running", second.stderr)
            self.assertNotEqual(self.left_behind(), {})
        self.assertIn(PINS.name, self.left_behind()["pins"])
        done = self.bench("--quick", "--rounds", "1", "--rows", "l7.parser")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_nothing_is_left()

    def test_what_it_cannot_do_is_said_before_anything_is_measured(self):
        (self.directory / "RESULTS.md").mkdir()
        cases = ((("--rows", "l9.*"), "--rows l9.*: no row has such an id"),
                 (("--rows", "l4.memory,tcp.cr"), "--rows tcp.cr: no row has such an id; did you mean tcp.crr"),
                 (("l4", "--rows", "tcp.crr"), "--rows tcp.crr: is of tcp, and only l4 was asked for"),
                 (("--json", "/tmp"), "--json /tmp: is no regular file"),
                 (("--json", "/dev/null"), "is no regular file"), (("--json", ""), "expected a name"),
                 (("--json", "/nowhere/x.json"), "/nowhere: No such file or directory"),
                 (("--json", f"/tmp/{'x' * 300}"), "File name too long"),
                 (("--json", "/proc/x.json"), "written into /proc"),
                 (("--report", self.directory), "RESULTS.md is no regular file"),
                 (("--against", "/nowhere/x.json"), "/nowhere/x.json: No such file or directory"),
                 (("--rows", os.fsdecode(b"l4.\xff")), "is not UTF-8"),
                 (("--json", self.directory / "x", "--report", self.directory / "x"), "is also what --report is"),
                 (("l5",), "l5"), (("--rounds", "0"), "0"))
        for words, complaint in cases:
            with self.subTest(words=words):
                done = self.bench(*words)
                self.assertEqual(done.returncode, 2)
                self.assertIn(complaint, done.stderr)
                self.assertEqual(done.stdout, "")

    def test_what_was_measured_is_kept_though_nobody_listens(self):
        words = [WEIR_PROGRAM, "bench", "--quick", "--rounds", "1", "--rows", "control.maglev_build", "--json"]
        for end in ("> /dev/full", ">&-", "2>&-", "2> /dev/full", "| true", ">&- 2>&-"):
            with self.subTest(end=end):
                file = self.directory / "kept.json"
                file.unlink(missing_ok=True)
                done = run("bash", "-c", f'"$@" {end}', "bash", *words, file, check=False)
                self.assertGreater(json.loads(file.read_text())["rows"][0]["value"], 0)
                self.assertNotIn("Traceback", done.stderr)
                is_full = end == "> /dev/full"
                self.assertEqual(done.returncode, int(is_full))
                if is_full:
                    self.assertIn("No space left on device", done.stderr)

    def test_a_full_disk_costs_neither_the_table_nor_what_was_there(self):
        place = self.directory / "small"
        place.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place)
        self.addCleanup(run, "umount", place)
        (place / "a.json").write_text("before")
        with contextlib.suppress(OSError), open(place / "filling", "wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        done = self.bench("--quick", "--rounds", "1", "--rows", "control.maglev_build", "--json", place / "a.json")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"(?m)^control\.maglev_build ")
        self.assertIn(f"{place}/a.json cannot be written: No space left on device", done.stderr)
        elsewhere = pathlib.Path(re.search(r"the results are in (\S+)", done.stderr)[1])
        self.addCleanup(shutil.rmtree, elsewhere.parent)
        self.assertGreater(json.loads(elsewhere.read_text())["rows"][0]["value"], 0)
        self.assertEqual((place / "a.json").read_text(), "before")
        self.assertEqual({path.name for path in place.iterdir()}, {"a.json", "filling"})

    def test_held_against_itself_nothing_is_worse_and_against_a_better_one_it_is_measured_twice(self):
        rows, file, better = "l7.parser,control.maglev_build", self.directory / "a.json", self.directory / "better.json"
        words = ("--quick", "--rows", rows)
        self.assertEqual(self.bench(*words, "--json", file).returncode, 0)
        same = self.bench(*words, "--against", file)
        self.assertEqual(same.returncode, 0, same.stdout)
        self.assertRegex(same.stdout, r"\d ratios compared with .*: none is worse by more than the noise")
        results = json.loads(file.read_text())
        for row in results["rows"]:
            if row["id"] == "l7.parser_ratio":
                row |= {"ratio": 3 * row["ratio"], "samples": [3 * one for one in row["samples"]]}
        better.write_text(json.dumps(results))
        worse = self.bench(*words, "--against", better)
        self.assertEqual(worse.returncode, 3, worse.stdout)
        self.assertIn("and measured again: l7.parser_ratio", worse.stdout)
        self.assertRegex(worse.stdout, r"1 worse by more than the noise, twice:\n  l7.parser_ratio: ")


if __name__ == "__main__":
    main()

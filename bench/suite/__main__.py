"""weir bench: measures in rounds, shows, keeps, compares. Started by weir-bench, with what its command
line says as JSON."""

import fnmatch
import importlib
import json
import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import compare  # noqa: E402 the path comes first
import machine  # noqa: E402
import programs  # noqa: E402
import report  # noqa: E402
import table  # noqa: E402
from progress import Progress  # noqa: E402
from weirlab import LabError  # noqa: E402

GROUPS = ("l4", "services", "tcp", "l7", "control")
QUICK_ROUNDS = 3
INTERRUPTED = 130


class Run:
    """The groups that were asked for, and what they have told so far."""

    def __init__(self, words):
        self.words = words
        self.rounds = min(words["rounds"], QUICK_ROUNDS) if words["quick"] else words["rounds"]
        self.groups = []
        for name in GROUPS:
            if not words["groups"] or name in words["groups"]:
                group = importlib.import_module(name).Group(words["quick"])
                group.series = [series for series in group.series if self.wants(series)]
                if group.series:
                    self.groups.append(group)
        if not self.groups:
            raise LabError(f"--rows {','.join(words['rows'])}: no row has such an id; they are in "
                           "bench/README.md")
        self.progress = Progress(sum(self.planned_s(s) for group in self.groups for s in group.series))

    def wants(self, series):
        if not self.words["rows"]:
            return series.in_quick or not self.words["quick"]
        return any(fnmatch.fnmatchcase(row.id, pattern)
                   for row in series.rows for pattern in self.words["rows"])

    def planned_s(self, series):
        return series.seconds * len(series.kinds) * series.count(self.rounds)

    def measure(self):
        for group in self.groups:
            self.progress.show(group.name, "making its hosts")
            try:
                with group:
                    for series in group.series:
                        self.measure_series(group, series)
            except LabError as error:  # the laboratory itself could not be made, or not taken down
                for series in group.series:
                    series.failed = series.failed or str(error)
        self.progress.clear()

    def measure_series(self, group, series):
        try:
            for number, kind in series.turns(self.rounds):
                self.progress.show(f"{group.name}: {series.name}",
                                   f"round {number + 1} of {series.count(self.rounds)}, {kind}")
                series.rounds[-1] |= series.measure(kind)
                self.progress.advance(series.seconds)
        except LabError as error:
            series.failed = str(error)[:600]
        except Exception as error:  # pylint: disable=broad-except
            # What others print may be anything; the rows that are there must not be lost for it.
            series.failed = f"{type(error).__name__}: {error}"

    def documents(self):
        return [row for group in self.groups for series in group.series for row in series.documents()]


def keep(path, results):
    """All or nothing: what was there stays until the new text is on the disk."""
    path = pathlib.Path(path)
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(results, indent=1) + "\n")
    new.replace(path)


def raise_interrupt(*_):
    raise KeyboardInterrupt


def check_words(words):
    """Before anything is measured: nothing is worse than ten minutes for a file that cannot be written."""
    for option in ("json", "report"):
        path = pathlib.Path(words[option] or ".")
        directory = path if option == "report" and path.is_dir() else path.absolute().parent
        if not os.access(directory, os.W_OK):
            raise LabError(f"--{option} {path}: {directory} is not a directory that can be written to")
    return compare.read(words["against"]) if words["against"] else None


def measure(words):
    before = check_words(words)
    if os.geteuid() != 0:
        raise LabError("needs root, because it makes network namespaces and loads programs; run it as root")
    if os.cpu_count() < 2:
        raise LabError("needs two CPUs: one for what is measured, one for its load")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, raise_interrupt)
    run = Run(words)
    interrupted = False
    header = machine.header(words["command"], programs.BUILD, words["quick"], run.rounds)
    try:
        run.measure()
    except KeyboardInterrupt:
        interrupted = True
        print("\nweir bench: interrupted; everything is taken down, and this is what was measured so far:",
              file=sys.stderr)
    results = header | {"interrupted": interrupted, "rows": run.documents()}
    show(results, words)
    return INTERRUPTED if interrupted else judge(results, before, words)


def show(results, words):
    print(f"{results['date']}, {results['machine']}, {results['kernel']}, load {results['load']:.2f}")
    print(", ".join(f"{name}: {version}" for name, version in results["versions"].items()))
    print(f"{results['rounds']} rounds by turns, medians; SPREAD is of the ratio, or of the value where "
          "there is no reference\n")
    print(table.text(results["rows"]))
    print(f"\n{table.summary(results['rows'])}")
    if words["json"]:
        keep(words["json"], results)
    if words["report"]:
        report.write(pathlib.Path(words["report"]), results)


def judge(results, before, words):
    if before is not None:
        worse = compare.regressions(before, results)
        print(compare.regressions_text(worse, words["against"]))
        if worse:
            return 1
    return 1 if any(row["failed"] for row in results["rows"]) else 0


def main():
    words = json.loads(sys.argv[1])
    if "compare" in words:
        print(compare.text(*(compare.read(path) for path in words["compare"])))
        return 0
    return measure(words)


try:
    sys.exit(main())
except (LabError, compare.BadResults) as error:
    sys.exit(f"weir: bench: {error}")

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
import plots  # noqa: E402
import programs  # noqa: E402
import report  # noqa: E402
import table  # noqa: E402
from progress import Progress  # noqa: E402
from weirlab import LabError  # noqa: E402

GROUPS = ("l4", "services", "tcp", "l7", "control")
ROUNDS, QUICK_ROUNDS = 5, 3
FAILED_MAX = 600  # letters of why something could not be measured
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
INTERRUPTED = 130


class Run:
    """The groups that were asked for, and what they have told so far."""

    def __init__(self, words):
        self.words = words
        self.rounds = words["rounds"] or (QUICK_ROUNDS if words["quick"] else ROUNDS)
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
            except Exception as error:  # pylint: disable=broad-except
                # Of hosts that could not be made, or not taken down; rows that are there must not be lost for it.
                check_interrupt()
                for series in group.series:
                    if not series.rounds:
                        series.failed = series.failed or words_of(error)
            check_interrupt()
        self.progress.clear()

    def measure_series(self, group, series):
        try:
            for number, kind in series.turns(self.rounds):
                self.progress.show(f"{group.name}: {series.name}",
                                   f"round {number + 1} of {series.count(self.rounds)}, {kind}")
                series.rounds[-1] |= series.measure(kind)
                self.progress.advance(series.seconds)
                check_interrupt()
        except Exception as error:  # pylint: disable=broad-except
            check_interrupt()
            series.failed = words_of(error)  # what others print may be anything

    def documents(self):
        return [row for group in self.groups for series in group.series for row in series.documents()]


was_interrupted = False


def raise_interrupt(*_):
    """Once: what begins then takes everything down, and another one would only keep it from that."""
    global was_interrupted  # pylint: disable=global-statement
    was_interrupted = True
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def take_interrupts():
    """weir-bench has held them back since before there was a handler."""
    for number in INTERRUPTS:
        signal.signal(number, raise_interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)


def check_interrupt():
    """Where taking something down has failed because of it, and that was the exception that came here."""
    if was_interrupted:
        raise KeyboardInterrupt


def words_of(error):
    text = str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
    return text[:FAILED_MAX]


def check_words(words):
    """Before anything is measured: nothing is worse than half an hour for a file that cannot be written."""
    for option, directory in (("json", pathlib.Path(words["json"]).absolute().parent),
                              ("report", pathlib.Path(words["report"]).absolute().parent)):
        if words[option] and not os.access(directory, os.W_OK):
            raise LabError(f"--{option} {words[option]}: {directory} is not a directory that can be written to")
    if words["json"]:
        file = pathlib.Path(words["json"])
        if file.is_dir():
            raise LabError(f"--json {words['json']}: is a directory; expected a file")
        if file.exists() and not file.is_file():  # it is replaced by a new one, which a device must not be
            raise LabError(f"--json {words['json']}: is no regular file; expected one, or a new name")
    if words["report"]:
        plots.need()
        place = pathlib.Path(words["report"])
        if place.exists() and not (place.is_dir() and os.access(place, os.W_OK)):
            raise LabError(f"--report {words['report']}: is not a directory that can be written to")
    before = compare.read(words["against"]) if words["against"] else None
    if before and before.get("quick") != words["quick"]:
        raise compare.BadResults(f"{words['against']}: was measured {'with' if before.get('quick') else 'without'} "
                                 "--quick; turns of other lengths cannot be compared")
    return before


def measure(words):
    before = check_words(words)
    if os.geteuid() != 0:
        raise LabError("needs root, because it makes network namespaces and loads programs; run it as root")
    if os.cpu_count() < 2:
        raise LabError("needs two CPUs: one for what is measured, one for its load")
    run = Run(words)
    interrupted = False
    header = machine.header(words["command"], programs.BUILD, words["quick"], run.rounds)
    try:
        run.measure()
    except KeyboardInterrupt:
        interrupted = True
        print("\nweir bench: interrupted; everything is taken down, and this is what was measured so far. No file "
              "is written.", file=sys.stderr)
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
    if words["json"] and not results["interrupted"]:
        report.keep(words["json"], json.dumps(results, indent=1) + "\n")
    if words["report"] and not results["interrupted"]:
        report.write(pathlib.Path(words["report"]), results)


def judge(results, before, words):
    if before is not None:
        worse = compare.regressions(before, results)
        print(compare.regressions_text(worse, compare.unguarded(before, results), words["against"]))
        if worse or not compare.guarded(before, results):
            return 1
    return 1 if any(row["failed"] for row in results["rows"]) else 0


def main():
    words = json.loads(sys.argv[1])
    take_interrupts()
    if "compare" in words:
        paths = words["compare"]
        print(compare.text(*(compare.read(path) for path in paths), paths))
        return 0
    return measure(words)


try:
    sys.exit(main())
except BrokenPipeError:  # whoever read this has seen enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
except (LabError, compare.BadResults) as error:
    sys.exit(f"weir: bench: {error}")
except KeyboardInterrupt:
    print("\nweir bench: interrupted", file=sys.stderr)
    sys.exit(INTERRUPTED)

"""weir bench: measures in rounds, keeps, shows, compares. Started by weir-bench, with what its command
line says as JSON."""

import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import checks  # noqa: E402 the path comes first
import compare  # noqa: E402
import group  # noqa: E402
import interrupts  # noqa: E402
import machine  # noqa: E402
import programs  # noqa: E402
import report  # noqa: E402
import table  # noqa: E402
from programs import LabError  # noqa: E402
from run import Run  # noqa: E402

DONE, FAILED, BAD_WORDS, WORSE, INTERRUPTED = 0, 1, 2, 3, 130


def measure(words):
    before = checks.check(words)
    run = Run(words["quick"], words["rounds"], words["groups"], words["rows"])
    if os.geteuid() != 0:
        raise LabError("needs root, because it makes network namespaces and loads programs; run it as root")
    if os.cpu_count() < 2:
        raise LabError("needs two CPUs: one for what is measured, one for its load")
    with group.only_run():
        header = machine.header(words["command"], programs.BUILD, words["quick"], run.rounds)
        interrupted = False
        try:
            run.measure()
        except KeyboardInterrupt:
            interrupted = True
            print("\nweir bench: interrupted; everything is taken down, and this is what was measured so far. No file "
                  "is written.", file=sys.stderr)
        results = header | {"interrupted": interrupted, "rows": run.documents()}
        # Files first: a terminal that is gone must not cost them.
        all_kept = interrupted or keep(results, words)
        show(results)
        if interrupted:
            return INTERRUPTED
        status = judge(results, before, words) if before is not None else DONE
    failed = any(row["failed"] for row in results["rows"]) or not all_kept
    return status or (FAILED if failed else DONE)


def keep(results, words):
    """Whether everything that was asked for is on the disk. What is not is said."""
    kept = True
    if words["json"]:
        kept = said(words["json"], report.keep_json, words["json"], results)
        if not kept:
            said("results of this run", report.keep_elsewhere, results)
    if words["report"]:
        kept = said(words["report"], report.write, pathlib.Path(words["report"]), results) and kept
    return kept


def said(what, act, *arguments):
    try:
        act(*arguments)
    except (OSError, LabError) as error:
        print(f"weir: bench: {what} cannot be written: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return False
    return True


def show(results):
    print(f"{results['date']}, {results['machine']}, {results['kernel']}, load {results['load']:.2f}")
    print(", ".join(f"{name}: {version}" for name, version in results["versions"].items()))
    print(f"{results['rounds']} rounds, in which contenders take turns; medians; SPREAD is where the ratio of another "
          "run is to be expected, 19 times of 20 (the value, where there is no reference)\n")
    print(table.text(results["rows"]))
    print(f"\n{table.summary(results['rows'])}", flush=True)


def judge(results, before, words):
    """What seems to be worse is measured again: it has to be so twice."""
    worse = compare.regressions(before, results)
    if worse:
        names = [old["id"] for old, *_ in worse]
        print(f"\nworse than in {words['against']} by more than the noise, and measured again: {', '.join(names)}",
              flush=True)
        run = Run(words["quick"], words["rounds"], rows=names)
        run.measure()
        worse = compare.confirmed(worse, run.documents())
    print(compare.regressions_text(worse, before, results, words["against"]))
    return WORSE if worse else DONE if compare.guarded(before, results) else FAILED


def main():
    words = json.loads(sys.argv[1])
    interrupts.take()
    if "compare" in words:
        paths = words["compare"]
        print(compare.text(*(compare.read(path) for path in paths), paths), flush=True)
        return DONE
    return measure(words)


def end(status, error=None):
    """Ends without another attempt to write what was not taken."""
    if error is not None:
        print(f"weir: bench: {error}", file=sys.stderr, flush=True)
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


try:
    sys.exit(main())
except BrokenPipeError:  # whoever read this has seen enough
    end(FAILED)
except (checks.BadWords, compare.BadResults) as error:
    end(BAD_WORDS, error)
except (LabError, OSError) as error:
    end(FAILED, error)
except KeyboardInterrupt:
    print("\nweir bench: interrupted", file=sys.stderr)
    sys.exit(INTERRUPTED)

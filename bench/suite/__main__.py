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
from programs import LabError, weirlab  # noqa: E402
from progress import tell  # noqa: E402
from run import Run  # noqa: E402

DONE, FAILED, BAD_WORDS, WORSE, INTERRUPTED = 0, 1, 2, 3, 130


def measure(words):
    before = checks.check(words)
    run = Run(words["quick"], words["rounds"], words["groups"], words["rows"])
    check = checks.check_against(before, words["against"], run.ids()) if before else None
    if os.geteuid() != 0:
        raise LabError("needs root, because it makes network namespaces and loads programs; run it as root")
    if os.cpu_count() < 2:
        raise LabError("needs two CPUs: one for what is measured, one for its load")
    with group.only_run():
        header = machine.header(words["command"], programs.BUILD, words["quick"], run.rounds)
        try:
            run.measure()
        except KeyboardInterrupt:
            tell("\nweir bench: interrupted; everything is taken down, and this is what was measured so far. No file "
                 "is written.")
            try:
                show(header | {"rows": run.documents()})
            except (LabError, OSError):  # perhaps the terminal that went away is what has interrupted it
                mute()
            return INTERRUPTED
        results = header | {"rows": run.documents()}
        try:
            with weirlab.undisturbed():
                all_kept = keep(results, words)  # first: a terminal that is gone must not cost the files
                show(results)
        except KeyboardInterrupt:
            tell("\nweir bench: interrupted when everything was measured, written and shown")
            return INTERRUPTED
        status = judge(results, check, words) if check else DONE
    failed = any(row["failed"] for row in results["rows"]) or not all_kept
    return status or (FAILED if failed else DONE)


def keep(results, words):
    """Whether everything that was asked for is on the disk. What is not is said."""
    wanted = [(words[option], act) for option, act in (("json", report.keep_json), ("report", report.write))
              if words[option]]
    kept = [act for path, act in wanted if said(path, act, path, results)]
    if len(kept) < len(wanted) and report.keep_json not in kept:
        said("the results", report.keep_elsewhere, results)
    return len(kept) == len(wanted)


def said(what, act, *arguments):
    try:
        act(*arguments)
    except Exception as error:  # pylint: disable=broad-except
        # Whatever it is, half an hour of results has to be shown all the same.
        tell(f"weir: bench: {what} cannot be written: {getattr(error, 'strerror', None) or error}")
        return False
    return True


def show(results):
    versions = ", ".join(f"{name}: {version}" for name, version in results["versions"].items())
    say(f"{results['date']}, {results['machine']}, {results['kernel']}, load {results['load']:.2f}\n{versions}\n"
        f"{results['rounds']} rounds, in which contenders take turns; medians; SPREAD is where the ratio of another "
        f"run is to be expected, 19 times of 20 (the value, where there is no reference)\n\n"
        f"{table.text(results['rows'])}\n\n{table.summary(results['rows'])}")


def say(text):
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LabError(f"standard output cannot be written: {error.strerror}") from None


def judge(results, check, words):
    """What seems to be worse is measured again."""
    if names := check.first(results):
        say(f"\nworse than in {words['against']} by more than the noise, and measured again: {', '.join(names)}")
        run = Run(words["quick"], words["rounds"], rows=names)
        try:
            run.measure()
        except KeyboardInterrupt:
            tell("\nweir bench: interrupted before it was known whether something is worse; everything is taken down")
            return INTERRUPTED
        check.again(run.documents())
    say(check.text(results))
    if check.worse:
        return WORSE
    return DONE if check.compared and not check.lost else FAILED


def main():
    words = json.loads(sys.argv[1])
    interrupts.take()
    if "compare" in words:
        paths = words["compare"]
        say(compare.text(*(compare.read(path) for path in paths), paths))
        return DONE
    return measure(words)


def mute():
    """No other attempt is made to write what was not taken."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def end(status, error):
    tell(f"weir: bench: {error}")
    mute()
    sys.exit(status)


try:
    sys.exit(main())
except BrokenPipeError:  # whoever read this has seen enough
    mute()
    sys.exit(FAILED)
except (checks.BadWords, compare.BadResults) as error:
    end(BAD_WORDS, error)
except (LabError, OSError) as error:
    end(FAILED, error)
except KeyboardInterrupt:
    tell("\nweir bench: interrupted")
    sys.exit(INTERRUPTED)

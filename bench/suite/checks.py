"""What the command line says, checked before anything is measured: nothing is worse than half an hour for a file that
cannot be written."""

import pathlib
import tempfile

import compare
import plots
import report


class BadWords(Exception):
    """A command line that asks for what cannot be; the text says what."""


def check_place(option, name, directory):
    """By writing there: permissions, limits and read-only mounts are many."""
    try:
        pathlib.Path(name).stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise BadWords(f"{option} {name}: {error.strerror}") from None
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise BadWords(f"{option} {name}: nothing can be written into {directory}: {error.strerror}") from None


def resolved(option, path):
    """Of a link, what it leads to."""
    try:
        return pathlib.Path(path).resolve()
    except (OSError, RuntimeError) as error:
        raise BadWords(f"{option} {path}: {getattr(error, 'strerror', None) or error}") from None


def check_file(option, path):
    """Returns what it leads to, as check_report() does."""
    path = resolved(option, path)
    check_place(option, path, path.parent)
    if path.exists() and not path.is_file():  # it is replaced by a new one, which a device must not be
        raise BadWords(f"{option} {path}: is no regular file; expected one, or a new name")
    return path


def check_report(option, directory):
    directory = resolved(option, directory)
    plots.need()
    for path in (directory, directory / report.PLOTS):
        if path.exists():
            check_place(option, path, path)  # which a file fails too
    if not directory.exists():
        check_place(option, directory, directory.absolute().parent)
    for path in (*(directory / name for name in report.FILES), *(directory / report.PLOTS).glob("*.svg")):
        if path.exists() and not path.is_file():
            raise BadWords(f"{option} {directory}: {path} is no regular file; expected one, or none")
    return directory


def check(words):
    """Returns the results to stand against, if there are any."""
    file = check_file("--json", words["json"]) if words["json"] else None
    if words["report"] and check_report("--report", words["report"]) == file:
        raise BadWords(f"--json {words['json']}: is also what --report is; one is a file, the other a directory")
    before = compare.read(words["against"]) if words["against"] else None
    if before and before.get("quick") != words["quick"]:
        raise BadWords(f"--against {words['against']}: was measured {'with' if before.get('quick') else 'without'} "
                       "--quick; turns of other lengths cannot be compared")
    if before and 0 < words["rounds"] < compare.LEAST_ROUNDS:
        raise BadWords(f"--rounds {words['rounds']}: so few do not know their noise; --against takes "
                       f"{compare.LEAST_ROUNDS} at least")
    return before


def check_against(before, path, names):
    """What the rows of these names are held against."""
    made = compare.Check(before, path, names)
    if not made.rows:
        raise BadWords(f"--against {path}: has no ratio of {compare.LEAST_ROUNDS} rounds of what is to be measured")
    return made

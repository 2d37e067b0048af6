"""RESULTS.md, SCALING.md, results.json and plots, all from one run."""

import contextlib
import errno
import json
import os
import pathlib
import re
import stat
import tempfile

import plots
import scaling
import table
from progress import tell

FINDINGS = pathlib.Path(__file__).resolve().parents[1] / "FINDINGS.md"
FILES, PLOTS = ("RESULTS.md", "SCALING.md", "results.json"), "plots"
TITLES = {"l4": "L4: packets", "services": "Services: what Weir replaces", "tcp": "TCP", "l7": "L7: requests",
          "control": "Control"}
NO_RIVALS = (None, "floor", "openssl")  # what a row is held against, but nobody uses instead of Weir


def keep(texts):
    """All or nothing, of {path: text}: what was there stays until all that is new is on the disk."""
    new = {}
    paths = {pathlib.Path(name).resolve(): body for name, body in texts.items()}  # of a link, what it leads to
    for path in paths:
        if path.is_dir():  # which could not be replaced
            raise IsADirectoryError(errno.EISDIR, f"{path} is a directory")
    try:
        for path, body in paths.items():
            new[path] = write_beside(path, body)
        for path, made in new.items():
            made.replace(path)
    finally:
        for made in new.values():
            made.unlink(missing_ok=True)


def write_beside(path, body):
    handle, name = tempfile.mkstemp(prefix=".weir-bench-", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            os.fchmod(handle, stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~umask())
            file.write(body)
            file.flush()
            os.fsync(handle)
    except BaseException:
        pathlib.Path(name).unlink()
        raise
    return pathlib.Path(name)


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def json_of(results):
    return json.dumps(results, indent=1) + "\n"


def keep_json(path, results):
    keep({path: json_of(results)})


def keep_elsewhere(results):
    """Where there may be room, for what took so long to measure."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="weir-bench-")) / "results.json"
    try:
        keep({path: json_of(results)})
    except OSError:
        path.parent.rmdir()
        raise
    tell(f"weir: bench: the results are in {path}")


def write(directory, results):
    """FILES and PLOTS, all of them or none."""
    directory = pathlib.Path(directory)
    drawings, pictures = plots.draw(results["rows"])
    texts = {"results.json": json_of(results), "SCALING.md": scaling.text(results),
             "RESULTS.md": text(results, pictures)}
    assert set(texts) == set(FILES)
    made = [place for place in (directory / PLOTS, directory) if not place.exists()]
    try:
        (directory / PLOTS).mkdir(parents=True, exist_ok=True)
        keep({directory / name: body for name, body in texts.items()}
             | {directory / PLOTS / name: body for name, body in drawings.items()})
    except BaseException:
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()
        raise


def findings():
    """What is known about rows that miss their target: {id: section}. A section names its ids in its heading."""
    sections = {}
    for part in re.split(r"(?m)^## ", FINDINGS.read_text())[1:]:
        heading, _, body = part.partition("\n")
        for name in re.findall(r"`([\w.]+)`", heading):
            sections[name] = (heading, body.strip())
    return sections


def advantage(row):
    """How many times better than its reference a row is; below 1 is worse."""
    if not row["ratio"]:
        return None
    return row["ratio"] if row["more_is_better"] else 1 / row["ratio"]


def is_rivalry(row):
    """Whether somebody is ahead in it. To have left more of a core idle is no merit where the client was the limit."""
    return (row["reference"] not in NO_RIVALS and advantage(row) and not row["failed"]
            and not row["id"].endswith("_core"))


def side(row):
    """1 where Weir is ahead, -1 where it is behind, by more than the spread; 0 otherwise."""
    low, high = row["spread"]
    if low <= 1 <= high:
        return 0
    return 1 if (low > 1) == row["more_is_better"] else -1


def sentence(row):
    bound = f"; limited by the client: {', '.join(row['bound'])}" if row["bound"] else ""
    return (f"- `{row['id']}`, {row['what']}: {table.short(row['value'])} {row['unit']}, {row['reference']} "
            f"{table.short(row['reference_value'])}: {advantage(row):.2f} times as good{bound}")


def balance(rows):
    """Plain words: where Weir is ahead, level, behind."""
    rivals = sorted((row for row in rows if is_rivalry(row)), key=advantage, reverse=True)
    ordered = [row for row in rivals if row["spread"]]
    groups = (("## Where Weir is ahead, by more than the spread", [r for r in ordered if side(r) > 0]),
              ("## Level, as far as the spread tells", [r for r in ordered if side(r) == 0]),
              ("## Where Weir is behind, by more than the spread", [r for r in reversed(ordered) if side(r) < 0]),
              ("## Measured once", [r for r in rivals if not r["spread"]]))
    lines = []
    for title, found in groups:
        lines += [title, "", *([sentence(row) for row in found] or ["Nothing."]), ""]
    return lines


def missed(rows):
    return [row for row in rows if row["target"] and row["verdict"] in ("missed", "client-bound")]


def misses(rows):
    """Each target that was missed, and by how much."""
    lines = []
    for row in missed(rows):
        judged = table.short(row["ratio"] if row["target"].endswith("x") else row["value"])
        lines.append(f"- `{row['id']}`, {row['what']}: {judged}, target {row['target']}: {table.verdict(row)}")
    return lines or ["None."]


def bounds(rows):
    """What is known about rows that miss their target, and about others that are behind their rival."""
    known, told, lines = findings(), set(), []
    behind = [row for row in rows if is_rivalry(row) and row["spread"] and side(row) < 0]
    for row in missed(rows) + behind:
        heading, body = known.get(row["id"], (None, None))
        if heading is None and row["target"]:
            lines += [f"### `{row['id']}`", "", "Not looked into yet.", ""]
        elif heading is not None and heading not in told:
            told.add(heading)
            lines += [f"### {heading}", "", body, ""]
    return lines or ["Nothing.", ""]


def text(results, pictures):
    rows = results["rows"]
    lines = ["# Results", "",
             f"Written by `{results['command']}` on {results['date']}; do not edit. Machine: {results['machine']}, "
             f"{results['kernel']}, load {results['load']:.2f} at the start. {results['rounds']} rounds, in which "
             "contenders take turns; medians; the spread is where the ratio of another run is to be expected, 19 times "
             "of 20 (the value, where there is no reference). What each row is and how it is measured: "
             "[README.md](README.md).", "",
             ", ".join(f"{name}: {version}" for name, version in results["versions"].items()) + ".", "",
             table.summary(rows) + ".", ""]
    lines += balance(rows)
    lines += ["## Targets that are missed", "", *misses(rows), "", "## What bounds them, and what else is behind", "",
              *bounds(rows)]
    failed = [row for row in rows if row["failed"]]
    if failed:
        lines += ["## Not measured", "", *(f"- `{row['id']}`: {row['failed']}" for row in failed), ""]
    for group, title in TITLES.items():
        mine = [row for row in rows if row["id"].startswith(f"{group}.")]
        if not mine:
            continue
        lines += [f"## {title}", "", *(f"![{what}](plots/{file})" for file, what in pictures.get(group, [])), "",
                  table.markdown(mine), ""]
    return "\n".join(lines)

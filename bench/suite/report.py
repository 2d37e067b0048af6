"""RESULTS.md, SCALING.md, results.json and plots, all from one run."""

import json
import pathlib
import re

import plots
import scaling
import table

FINDINGS = pathlib.Path(__file__).resolve().parents[1] / "FINDINGS.md"
TITLES = {"l4": "L4: packets", "services": "Services: what Weir replaces", "tcp": "TCP", "l7": "L7: requests",
          "control": "Control"}
NO_RIVALS = (None, "floor", "openssl")  # what a row is held against, but nobody uses instead of Weir


def keep(path, text):
    """All or nothing: what was there stays until the new text is on the disk."""
    path = pathlib.Path(path).resolve()  # of a link, what it leads to
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)


def write(directory, results):
    directory.mkdir(exist_ok=True)
    keep(directory / "results.json", json.dumps(results, indent=1) + "\n")
    keep(directory / "SCALING.md", scaling.text(results))
    pictures = plots.draw(directory / "plots", results["rows"])
    keep(directory / "RESULTS.md", text(results, pictures))


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
    """1 where every round had Weir ahead, -1 behind, 0 where rounds differ."""
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
    rivals = [row for row in rows if is_rivalry(row)]
    ordered = sorted(rivals, key=advantage, reverse=True)
    groups = (("## Where Weir is ahead, in every round", [r for r in ordered if side(r) > 0]),
              ("## Now ahead, now behind", [r for r in ordered if side(r) == 0]),
              ("## Where Weir is behind, in every round", [r for r in reversed(ordered) if side(r) < 0]))
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
    behind = [row for row in rows if is_rivalry(row) and side(row) < 0]
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
             "contenders take turns; medians; the spread is of the ratio, or of the value where there is no "
             "reference. What each row is and how it is measured: [README.md](README.md).", "",
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

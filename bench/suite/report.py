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
# A peer that costs a few per cent more or less is neither better nor worse.
LEVEL = 0.05


def write(directory, results):
    directory.mkdir(exist_ok=True)
    pictures = plots.draw(directory / "plots", results["rows"])
    (directory / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (directory / "RESULTS.md").write_text(text(results, pictures))
    (directory / "SCALING.md").write_text(scaling.text(results))


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


def against_peers(rows):
    """Rows whose reference is somebody else's program, not a floor."""
    return [row for row in rows if row["reference"] not in (None, "floor") and advantage(row)]


def sentence(row):
    return (f"- `{row['id']}`, {row['what']}: {table.short(row['value'])} {row['unit']}, {row['reference']} "
            f"{table.short(row['reference_value'])}: {advantage(row):.2f} times as good")


def balance(rows):
    """Plain words: where Weir is ahead, level, behind."""
    ordered = sorted(against_peers(rows), key=advantage, reverse=True)
    groups = (("## Where Weir is ahead", [r for r in ordered if advantage(r) > 1 + LEVEL]),
              ("## Level, within 5 %", [r for r in ordered if abs(advantage(r) - 1) <= LEVEL]),
              ("## Where Weir is behind", [r for r in reversed(ordered) if advantage(r) < 1 - LEVEL]))
    lines = []
    for title, found in groups:
        lines += [title, "", *([sentence(row) for row in found] or ["Nothing."]), ""]
    return lines


def misses(rows):
    """Each target that was missed, by how much, and what bounds it."""
    known, told, lines = findings(), set(), []
    missed = [row for row in rows if row["verdict"] in ("missed", "client-bound")]
    for row in missed:
        judged = table.short(row["ratio"] if (row["target"] or "").endswith("x") else row["value"])
        lines.append(f"- `{row['id']}`, {row['what']}: {judged}, target {row['target']}: {table.verdict(row)}")
    for row in missed:
        heading, body = known.get(row["id"], (None, None))
        if heading is None:
            lines += ["", f"### `{row['id']}`", "", "Not looked into yet."]
        elif heading not in told:
            told.add(heading)
            lines += ["", f"### {heading}", "", body]
    return lines or ["None."]


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
    lines += ["## Targets that are missed, and what bounds them", "", *misses(rows), ""]
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

"""Two results, row by row: what changed by more than its noise."""

import json
import pathlib

import table

# Two runs of few rounds can be this far apart though nothing has changed.
LEAST_NOISE = 0.1
LEAST_ROUNDS = 3  # fewer do not tell what the noise is
FIELDS = ("id", "value", "ratio", "spread", "more_is_better", "rounds")


class BadResults(Exception):
    """A file that is no results of weir bench; the text says what is wrong with it."""


def read(path):
    try:
        results = json.loads(pathlib.Path(path).read_text())
    except OSError as error:
        raise BadResults(f"{path}: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadResults(f"{path}: not JSON ({error}); expected what weir bench --json has written") from None
    rows = results.get("rows") if isinstance(results, dict) else None
    if not isinstance(rows, list):
        raise BadResults(f"{path}: has no list 'rows'; expected what weir bench --json has written")
    for number, row in enumerate(rows):
        missing = [field for field in FIELDS if not isinstance(row, dict) or field not in row]
        if missing:
            raise BadResults(f"{path}: row {number} has no '{missing[0]}'; expected what weir bench --json "
                             "has written")
    return results


def number_of(row):
    """What is compared: machines differ in values, not in ratios."""
    return row["ratio"] if row["ratio"] is not None else row["value"]


def noise(row):
    """How far a run of the same could be off, as a share: what the rounds were."""
    number = number_of(row)
    if not number or not row["spread"]:
        return LEAST_NOISE
    low, high = row["spread"]
    return max(LEAST_NOISE, (high - low) / abs(number))


def judge(before, after):
    """(verdict, change): better, worse, or the same within the noise that was recorded before; as a share."""
    old, new = number_of(before), number_of(after)
    if old is None or new is None:
        return "not measured", None
    if (before["ratio"] is None) != (after["ratio"] is None) or old == 0:
        return "not comparable", None
    change = (new - old) / abs(old)
    if min(before["rounds"], after["rounds"]) < LEAST_ROUNDS:
        return "too few rounds", change
    if abs(change) <= noise(before):
        return "same", change
    return "better" if (change > 0) == before["more_is_better"] else "worse", change


def pairs(before, after):
    found = {row["id"]: row for row in after["rows"]}
    return [(row, found[row["id"]]) for row in before["rows"] if row["id"] in found]


def text(before, after):
    lines = [f"before: {before.get('date')}, {before.get('machine')}, {before.get('versions', {}).get('weir')}",
             f"after:  {after.get('date')}, {after.get('machine')}, {after.get('versions', {}).get('weir')}", "",
             f"{'ROW':<28} {'BEFORE':<12} {'AFTER':<12} {'CHANGE':<9} {'NOISE':<8} VERDICT"]
    for old, new in pairs(before, after):
        word, change = judge(old, new)
        changed = "-" if change is None else f"{100 * change:+.1f} %"
        lines.append(f"{old['id']:<28} {shown(old):<12} {shown(new):<12} {changed:<9} "
                     f"{100 * noise(old):<6.0f} % {word}")
    for name, rows, others in (("before", before, after), ("after", after, before)):
        known = {row["id"] for row in others["rows"]}
        alone = [row["id"] for row in rows["rows"] if row["id"] not in known]
        if alone:
            lines.append(f"\nonly {name}: {', '.join(alone)}")
    return "\n".join(lines)


def shown(row):
    return f"{row['ratio']:.3g}x" if row["ratio"] is not None else table.short(row["value"])


def regressions(before, after):
    """Only ratios to what was measured in the same run: a value is the machine's as much as ours."""
    return [(old, new, judge(old, new)[1]) for old, new in pairs(before, after)
            if old["ratio"] is not None and judge(old, new)[0] == "worse"]


def unguarded(before, after):
    """Ratios of before that nothing can be said of now."""
    found = {row["id"]: row for row in after["rows"]}
    guarded = ("same", "better", "worse")
    return [row["id"] for row in before["rows"] if row["ratio"] is not None
            and (row["id"] not in found or judge(row, found[row["id"]])[0] not in guarded)]


def regressions_text(found, left_out, path):
    lines = [f"\nno ratio is worse than in {path} by more than its noise"]
    if found:
        lines = [f"\nworse than in {path} by more than its noise:"]
        lines += [f"  {old['id']}: {old['ratio']:.3g}x before, {new['ratio']:.3g}x now ({100 * change:+.1f} %)"
                  for old, new, change in found]
    if left_out:
        lines.append(f"not compared: {', '.join(left_out)}")
    return "\n".join(lines)

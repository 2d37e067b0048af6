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


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15  # NaN is not


def is_spread(value):
    return isinstance(value, list) and len(value) == 2 and all(is_number(one) for one in value)


CHECKS = {"id": lambda value: isinstance(value, str) and value.isprintable(),
          "value": lambda value: value is None or is_number(value), "ratio": lambda value: value is None or is_number(value),
          "spread": lambda value: value is None or is_spread(value),
          "more_is_better": lambda value: isinstance(value, bool),
          "rounds": lambda value: isinstance(value, int) and not isinstance(value, bool)}


def read(path):
    def bad(what):
        return BadResults(f"{path}: {what}; expected what weir bench --json has written")

    try:
        results = json.loads(pathlib.Path(path).read_text())
    except OSError as error:
        raise BadResults(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise bad(f"not JSON ({error})") from None
    rows = results.get("rows") if isinstance(results, dict) else None
    if not isinstance(rows, list):
        raise bad("has no list 'rows'")
    if not isinstance(results.get("versions", {}), dict):
        raise bad("has 'versions' that are none")
    for number, row in enumerate(rows):
        for field in FIELDS:
            if not isinstance(row, dict) or field not in row:
                raise bad(f"row {number} has no '{field}'")
            if not CHECKS[field](row[field]):
                raise bad(f"row {number} has '{field}' {json.dumps(row[field])[:60]}")
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


def text(before, after, paths):
    """For people. `paths`: where the two come from."""
    if before.get("quick") != after.get("quick"):
        raise BadResults(f"{paths[0]} and {paths[1]}: one was measured with --quick, the other without; turns of other "
                         "lengths cannot be compared")
    both = pairs(before, after)
    if not both:
        raise BadResults(f"{paths[0]} and {paths[1]}: no row is in both")
    lines = [f"{name} {results.get('date')}, {results.get('machine')}, {results.get('versions', {}).get('weir')}"
             + (", interrupted" if results.get("interrupted") else "")
             for name, results in (("before:", before), ("after: ", after))]
    lines += ["", f"{'ROW':<28} {'BEFORE':<12} {'AFTER':<12} {'CHANGE':<9} {'NOISE':<8} VERDICT"]
    for old, new in both:
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


def is_guarded(before, after):
    return judge(before, after)[0] in ("same", "better", "worse")


def guarded(before, after):
    """Ratios that something can be said of."""
    return [old["id"] for old, new in pairs(before, after) if old["ratio"] is not None and is_guarded(old, new)]


def unguarded(before, after):
    """Ratios of before that nothing can be said of now."""
    known = set(guarded(before, after))
    return [row["id"] for row in before["rows"] if row["ratio"] is not None and row["id"] not in known]


def regressions_text(found, left_out, path):
    lines = [f"\nno ratio that can be compared is worse than in {path} by more than its noise"]
    if found:
        lines = [f"\nworse than in {path} by more than its noise:"]
        lines += [f"  {old['id']}: {old['ratio']:.3g}x before, {new['ratio']:.3g}x now ({100 * change:+.1f} %)"
                  for old, new, change in found]
    if left_out:
        lines.append(f"not compared: {', '.join(left_out)}")
    return "\n".join(lines)

"""Two results, row by row: what changed by more than the noise of both."""

import json
import pathlib

import table

# What rounds do not show: how a build happens to lay out its code.
LEAST_NOISE = 0.1
LEAST_ROUNDS = 3  # fewer do not tell what the noise is
FIELDS = ("id", "value", "ratio", "spread", "samples", "more_is_better", "rounds")
# Held against another row, but without anything of Weir's in it.
NOT_OURS = ("l4.floor_line",)


class BadResults(Exception):
    """A file that is no results of weir bench; the text says what is wrong with it."""


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15  # NaN is not


def is_spread(value):
    return isinstance(value, list) and len(value) == 2 and all(is_number(one) for one in value)


CHECKS = {"id": lambda value: isinstance(value, str) and value.isprintable(),
          "value": lambda value: value is None or is_number(value), "ratio": lambda value: value is None or is_number(value),
          "spread": lambda value: value is None or is_spread(value),
          "samples": lambda value: isinstance(value, list) and all(map(is_number, value)),
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


def noise(before, after):
    """How far the two could be apart though nothing has changed, as a share of before: until their spreads do not
    meet any more. None where one of them does not know."""
    if min(before["rounds"], after["rounds"]) < LEAST_ROUNDS or not before["spread"] or not after["spread"]:
        return None
    old, new = number_of(before), number_of(after)
    upwards, downwards = before["spread"][1] - old, old - before["spread"][0]
    new_upwards, new_downwards = after["spread"][1] - new, new - after["spread"][0]
    return max(LEAST_NOISE, (upwards + new_downwards if new > old else downwards + new_upwards) / abs(old))


def judge(before, after):
    """(verdict, change): better, worse, or the same within the noise; as a share."""
    old, new = number_of(before), number_of(after)
    if old is None or new is None:
        return "not measured", None
    if (before["ratio"] is None) != (after["ratio"] is None) or old == 0:
        return "not comparable", None
    change = (new - old) / abs(old)
    apart = noise(before, after)
    if apart is None:
        return "too few rounds", change
    if abs(change) <= apart:
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
        apart = None if change is None else noise(old, new)
        allowed = "-" if apart is None else f"{100 * apart:.0f} %"
        lines.append(f"{old['id']:<28} {shown(old):<12} {shown(new):<12} {changed:<9} {allowed:<8} {word}")
    words = [judge(old, new)[0] for old, new in both]
    lines += ["", ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words)))]
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
            if is_ours(old) and judge(old, new)[0] == "worse"]


def confirmed(worse, again):
    """Those that another measurement has not shown to be the same or better."""
    found = {row["id"]: row for row in again}
    newer = [(old, found.get(old["id"], new)) for old, new, _ in worse]
    return [(old, new, judge(old, new)[1]) for old, new in newer if judge(old, new)[0] not in ("same", "better")]


def is_ours(row):
    return row["ratio"] is not None and row["id"] not in NOT_OURS


def is_guarded(before, after):
    return judge(before, after)[0] in ("same", "better", "worse")


def guarded(before, after):
    """Ratios that something can be said of."""
    return [old["id"] for old, new in pairs(before, after) if is_ours(old) and is_guarded(old, new)]


def unguarded(before, after):
    """Ratios of before that nothing can be said of now."""
    known = set(guarded(before, after))
    return [row["id"] for row in before["rows"] if is_ours(row) and row["id"] not in known]


def change_text(old, new, change):
    now = "not measured now" if new["ratio"] is None else f"{new['ratio']:.3g}x now"
    return f"  {old['id']}: {old['ratio']:.3g}x before, {now}" + (f" ({100 * change:+.1f} %)" if change is not None else "")


def regressions_text(worse, before, after, path):
    count, left_out = len(guarded(before, after)), unguarded(before, after)
    lines = [f"\n{count} ratios compared with {path}: none is worse by more than the noise"]
    if worse:
        lines = [f"\n{count} ratios compared with {path}: {len(worse)} worse by more than the noise, twice:",
                 *(change_text(*one) for one in worse)]
    if before.get("machine") != after.get("machine"):
        lines.append(f"{path} is of another machine, {before.get('machine')}, on which ratios may be others")
    if left_out:
        lines.append(f"not compared: {', '.join(left_out)}")
    return "\n".join(lines)

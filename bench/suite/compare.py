"""Two results, row by row: what changed by more than the noise of both."""

import json
import math
import pathlib
import stat
import statistics

import table
from rows import MEDIAN, WIDEST

# What rounds do not show: how a build happens to lay out its code.
LEAST_NOISE = 0.1
# Student's t, 0.995, by degrees of freedom.
T = {4: 4.604, 5: 4.032, 6: 3.707, 7: 3.499, 8: 3.355, 9: 3.250, 10: 3.169, 11: 3.106, 12: 3.055}
T_OF_MORE = 3.02
LEAST_ROUNDS = 3  # fewer do not tell what the noise is
LARGEST_BYTES = 64 << 20  # a hundred times what a full run writes
# Held against another row, but without anything of Weir's in it.
NOT_OURS = ("l4.floor_line",)


class BadResults(Exception):
    """A file that is no results of weir bench; the text says what is wrong with it."""


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e100  # NaN is not


def is_text(value):
    return isinstance(value, str) and value.isprintable()


def is_number_or_none(value):
    return value is None or is_number(value)


CHECKS = {"id": is_text,
          "value": is_number_or_none, "ratio": is_number_or_none,
          "samples": lambda value: isinstance(value, list) and all(map(is_number, value)),
          "more_is_better": lambda value: isinstance(value, bool)}


def read(path):
    def bad(what):
        return BadResults(f"{path}: {what}; expected what weir bench --json has written")

    file = pathlib.Path(path)
    try:
        if not stat.S_ISREG(file.stat().st_mode) or file.stat().st_size > LARGEST_BYTES:
            raise bad(f"is no regular file of at most {LARGEST_BYTES >> 20} MiB")
        results = json.loads(file.read_text())
    except OSError as error:
        raise bad(error.strerror) from None
    except (ValueError, RecursionError) as error:
        raise bad(f"not JSON ({error})") from None
    rows = results.get("rows") if isinstance(results, dict) else None
    if not isinstance(rows, list):
        raise bad("has no list 'rows'")
    seen = set()
    for number, row in enumerate(rows):
        for field, is_right in CHECKS.items():
            if not isinstance(row, dict) or field not in row:
                raise bad(f"row {number} has no '{field}'")
            if not is_right(row[field]):
                raise bad(f"row {number} has '{field}' {json.dumps(row[field])[:60]}")
        if is_ratio(row) and min([row["ratio"], *row["samples"]]) <= 0:
            raise bad(f"row {number} has a ratio that is not above zero")
        if row["id"] in seen:
            raise bad(f"row {number} has the id of one before it, '{row['id']}'")
        seen.add(row["id"])
    versions = results.get("versions", {})
    if not isinstance(versions, dict) or not all(map(is_text, versions.values())):
        raise bad("has 'versions' that are none")
    for field in ("date", "machine"):
        if not is_text(results.get(field, "")):
            raise bad(f"has '{field}' {json.dumps(results[field])[:60]}")
    if not isinstance(results.get("quick"), bool):
        raise bad(f"has 'quick' {json.dumps(results.get('quick'))[:60]}")
    return results


def is_ratio(row):
    return row["ratio"] is not None


def number_of(row):
    """What is compared: machines differ in values, not in ratios."""
    return row["ratio"] if is_ratio(row) else row["value"]


def noise(before, after):
    """How far the two may be apart though nothing has changed, as a share of before: 99 times of 100 the difference of
    two medians is smaller, by what the rounds of both differ by. None where there are too few to know."""
    if min(len(before["samples"]), len(after["samples"])) < LEAST_ROUNDS:
        return None
    both = [samples_of(before), samples_of(after)]
    freedom = sum(len(samples) - 1 for samples in both)
    pooled = sum((len(samples) - 1) * statistics.variance(samples) for samples in both) / freedom
    apart = T.get(freedom, T_OF_MORE) * math.sqrt(MEDIAN * pooled * sum(1 / len(samples) for samples in both))
    if is_ratio(before):
        apart = min(apart, WIDEST)
        share = math.expm1(apart) if number_of(after) > number_of(before) else -math.expm1(-apart)
    else:
        share = apart / abs(number_of(before))
    return max(LEAST_NOISE, share)


def samples_of(row):
    return [math.log(one) for one in row["samples"]] if is_ratio(row) else row["samples"]


def judge(before, after):
    """(verdict, change, noise): better, worse, or the same within the noise; shares of before."""
    old, new = number_of(before), number_of(after)
    if old is None or new is None:
        return "not measured", None, None
    if is_ratio(before) != is_ratio(after):
        return "not comparable", None, None
    word = "better" if (new > old) == before["more_is_better"] else "worse"
    if old == 0:  # of which there are no shares
        return "same" if new == 0 else word, None, None
    change, apart = (new - old) / abs(old), noise(before, after)
    if apart is None:
        return "too few rounds", change, None
    return "same" if abs(change) <= apart else word, change, apart


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
             for name, results in (("before:", before), ("after: ", after))]
    lines += ["", f"{'ROW':<28} {'BEFORE':<12} {'AFTER':<12} {'CHANGE':<9} {'NOISE':<8} VERDICT"]
    words = []
    for old, new in both:
        word, change, apart = judge(old, new)
        changed = "-" if change is None else f"{100 * change:+.1f} %"
        allowed = "-" if apart is None else f"{100 * apart:.0f} %"
        lines.append(f"{old['id']:<28} {shown(old):<12} {shown(new):<12} {changed:<9} {allowed:<8} {word}")
        words.append(word)
    lines += ["", ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words)))]
    for name, rows, others in (("before", before, after), ("after", after, before)):
        known = {row["id"] for row in others["rows"]}
        alone = [row["id"] for row in rows["rows"] if row["id"] not in known]
        if alone:
            lines.append(f"\nonly {name}: {', '.join(alone)}")
    return "\n".join(lines)


def shown(row):
    return f"{row['ratio']:.3g}x" if is_ratio(row) else table.short(row["value"])


def is_ours(row):
    return is_ratio(row) and row["id"] not in NOT_OURS


class Check:
    """The ratios of results held against those of before: a value is the machine's as much as ours. What seems to be
    worse counts once it was measured again, and is worse again."""

    def __init__(self, before, path, names):
        """`names`: of the rows that are measured."""
        self.before, self.path = before, path
        self.asked = {row["id"]: row for row in before["rows"] if is_ours(row) and row["id"] in names}
        self.rows = {name: row for name, row in self.asked.items() if len(row["samples"]) >= LEAST_ROUNDS}
        self.compared, self.worse, self.lost = set(), {}, []

    def first(self, results):
        """The ids of rows to measure again."""
        for name, new, word, change in self.judged(results["rows"]):
            if word in ("same", "better", "worse"):
                self.compared.add(name)
            if word == "worse":
                self.worse[name] = (new, change)
        return list(self.worse)

    def again(self, rows):
        found = {name: (new, word, change) for name, new, word, change in self.judged(rows)}
        for name in list(self.worse):
            new, word, change = found.get(name, (None, "not measured", None))
            if word == "worse":
                self.worse[name] = (new, change)
                continue
            del self.worse[name]
            if word != "same" and word != "better":
                self.lost.append(name)

    def judged(self, rows):
        for new in rows:
            if old := self.rows.get(new["id"]):
                word, change, _ = judge(old, new)
                yield new["id"], new, word, change

    def text(self, results):
        found = (f"{len(self.worse)} worse by more than the noise, twice:" if self.worse
                 else "none is known to be worse" if self.lost else "none is worse by more than the noise")
        lines = [f"\n{len(self.compared)} ratios compared with {self.path}: {found}"]
        lines += [f"  {name}: {self.rows[name]['ratio']:.3g}x before, {new['ratio']:.3g}x now ({100 * change:+.1f} %)"
                  for name, (new, change) in self.worse.items()]
        if self.lost:
            lines.append(f"worse once, and could not be measured again: {', '.join(self.lost)}")
        if self.before.get("machine") != results.get("machine"):
            lines.append(f"{self.path} is of another machine, {self.before.get('machine')}, on which ratios may be "
                         "others")
        if left_out := [name for name in self.asked if name not in self.compared]:
            lines.append(f"not compared: {', '.join(left_out)}")
        return "\n".join(lines)

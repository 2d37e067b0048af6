"""count_tests.py LAST_TEST_LOG CTEST_LOG: adds up how many tests passed, failed and were skipped, and
prints the three numbers. One ctest may be many tests: it is taken at its word, the closing line of a
script, 'N passed, N failed, N skipped', or GoogleTest's. One that says nothing counts as one test, and
one that ctest calls failed has at least one failure, whatever it says."""

import re
import sys


def own_counts(output):
    """What the test says of itself, as (passed, failed, skipped), or None."""
    script = re.search(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", output, re.M)
    if script:
        return tuple(map(int, script.groups()))
    if not re.search(r"^\[=+\] \d+ tests? from .* ran\.", output, re.M):
        return None
    rows = (re.search(rf"^\[ +{word} +\] (\d+) tests?[.,]", output, re.M)
            for word in ("PASSED", "FAILED", "SKIPPED"))
    return tuple(int(row.group(1)) if row else 0 for row in rows)


def counts_of(outcome, output):
    is_good = outcome in ("Passed", "Skipped")
    own = own_counts(output)
    if own is None:
        return int(outcome == "Passed"), int(not is_good), int(outcome == "Skipped")
    return own[0], own[1] if is_good else max(own[1], 1), own[2]


def outputs_of(text):
    """Every ctest's name → what it wrote."""
    blocks = re.split(r"^\d+/\d+ Testing: (.*)$", text, flags=re.M)
    return dict(zip(blocks[1::2], blocks[2::2]))


def main():
    with open(sys.argv[1], encoding="utf-8", errors="replace") as log:
        outputs = outputs_of(log.read())
    with open(sys.argv[2], encoding="utf-8", errors="replace") as log:
        outcomes = re.findall(r"^ *\d+/\d+ Test +#\d+: (.+?) \.* *(?:[A-Z][a-z]+ aborted)?(?:\*\*\*)?"
                              r"(Passed|Failed|Timeout|Exception|Not Run|Skipped)", log.read(), re.M)
    rows = [counts_of(outcome, outputs.get(name, "")) for name, outcome in outcomes]
    print(*(sum(row[i] for row in rows) for i in range(3)))


if __name__ == "__main__":
    main()

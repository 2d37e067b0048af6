"""count.py LAST_TEST_LOG CTEST_LOG: adds up what the lab's scripts say of themselves, 'N passed, N
failed, N skipped', and counts a script that ctest calls failed but that said nothing as a failure.
Prints three numbers."""

import re
import sys

own = re.findall(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", open(sys.argv[1]).read(), re.M)
passed, failed, skipped = (sum(int(row[i]) for row in own) for i in range(3))
outcomes = re.findall(r"Test +#\d+: .*?(Passed|Failed|Timeout|Exception|Not Run|Skipped)",
                      open(sys.argv[2]).read())
silent = len(outcomes) - len(own)
if failed == 0:
    failed += sum(outcome not in ("Passed", "Skipped") for outcome in outcomes)
skipped += max(0, silent) if failed == 0 else 0
print(passed, failed, skipped)

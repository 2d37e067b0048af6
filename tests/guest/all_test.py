"""Runs inside a guest: all tests of this folder, or those that are named, in one boot.

    tools/guest/run --kernel 6.1 -- python3 tests/guest/all_test.py [kernel chain tunnel netem]
"""

import os
import pathlib
import sys
import unittest

PARTS = ["kernel", "chain", "tunnel", "netem"]


class Counted(unittest.TextTestResult):
    """Counts what passed by itself: what fails while a class is prepared is no test that ran."""

    passed = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1


def main():
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    sys.dont_write_bytecode = True
    print(f"linux {os.uname().release}", flush=True)
    suite = unittest.defaultTestLoader.loadTestsFromNames(
        f"{part}_test" for part in sys.argv[1:] or PARTS)
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=Counted).run(suite)
    failed = len(result.failures) + len(result.errors)
    print(f"{result.passed} passed, {failed} failed, {len(result.skipped)} skipped")
    return 0 if failed == 0 and result.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())

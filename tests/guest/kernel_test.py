"""The programs on this kernel: all kernel tests, and the daemon with native XDP on a veth."""

import re
import subprocess
import sys
import unittest

from guestcase import BACKENDS, VIP4, GuestCase, backend4, weirlab

# Under sanitizers these take ten times as long; the release build runs the same tests.
EXECUTABLES = ["tests/bpf/weir_bpf_kernel_test", "tests/l4/l4_kernel_test",
               "tests/l4/l4_probe_kernel_test"]
TESTS_S = 900


class Programs(unittest.TestCase):

    def assert_all_pass(self, executable):
        done = subprocess.run([weirlab.BUILD / executable, "--gtest_color=no"], text=True,
                              capture_output=True, timeout=TESTS_S, check=False)
        ran = re.search(r"^\[=+\] (\d+) tests? from .* ran", done.stdout, re.M)
        count = int(ran.group(1)) if ran else 0
        passed = re.search(r"^\[ +PASSED +\] (\d+) tests?", done.stdout, re.M)
        if done.returncode != 0 or not passed or int(passed.group(1)) != count:
            # What a test says stands before the line that calls it failed or skipped.
            for told in re.findall(r"^\[ RUN .*\n(?:(?!\[ ).*\n)*\[ +(?:FAILED|SKIPPED).*",
                                   done.stdout, re.M)[:10]:
                print(told[-3000:], file=sys.stderr)
            self.fail(f"{executable}: exit {done.returncode}, {done.stdout[-600:]}{done.stderr[-600:]}")
        self.assertGreater(count, 0)
        print(f"{count} tests ... ", end="", flush=True)

    def test_the_packet_path_runs_on_this_kernel(self):
        self.assert_all_pass(EXECUTABLES[0])

    def test_the_plane_loads_pins_and_attaches_on_this_kernel(self):
        self.assert_all_pass(EXECUTABLES[1])

    def test_probes_go_through_the_encapsulation_on_this_kernel(self):
        self.assert_all_pass(EXECUTABLES[2])


class Daemon(GuestCase):

    @classmethod
    def prepare(cls):
        cls.add_vip(f"{VIP4}:53/udp", "ipip", [backend4(name) for name in BACKENDS])
        cls.lab.weir("load", "eth0", "--mode", "native")

    def test_a_veth_is_loaded_natively_and_a_packet_is_forwarded(self):
        devices = self.lab.weir_json("status")["devices"]
        self.assertEqual([(row["name"], row["mode"]) for row in devices], [("eth0", "native")])
        before = self.verdicts().get("tx_ipip", 0)
        self.assertIn(self.lab.ask("udp", VIP4, 1), BACKENDS)
        self.assertEqual(self.verdicts().get("tx_ipip", 0) - before, 1)


if __name__ == "__main__":
    unittest.main()

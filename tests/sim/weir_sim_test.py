"""weir-sim as a program: what it prints, what it refuses, how it ends."""

import signal
import subprocess
import sys
import unittest

PROGRAM = sys.argv.pop(1)


def weir_sim(*words):
    return subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=50)


class WeirSim(unittest.TestCase):
    def test_good_seeds_end_with_a_summary_and_zero(self):
        done = weir_sim("--seeds", "1..6", "--jobs", "2")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("6 of 6 seeds, 0 failed", done.stdout)
        self.assertIn("virtual hours", done.stdout)
        self.assertEqual(done.stderr, "")  # progress is for a terminal

    def test_a_failing_seed_comes_with_the_command_that_repeats_it(self):
        settings = ["--set", "plot=0", "--set", "sabotage=6"]
        done = weir_sim("--seeds", "4..4", *settings)
        self.assertEqual(done.returncode, 1)
        self.assertIn("FAILED seed 4: ", done.stdout)
        command = "repeat with: weir-sim --seeds 4 --print --set plot=0 --set sabotage=6\n"
        self.assertIn(command, done.stdout)
        again = weir_sim("--seeds", "4", "--print", *settings)
        self.assertEqual(again.returncode, 1)
        self.assertIn("flags 02 seq", again.stdout)  # the first SYN
        failure = next(line for line in done.stdout.splitlines() if line.startswith("FAILED"))
        self.assertIn(failure, again.stdout)

    def test_an_interrupt_prints_the_summary_so_far(self):
        with subprocess.Popen([PROGRAM, "--seeds", "1..100000000", "--jobs", "1", "--print"],
                              stdout=subprocess.PIPE, text=True) as process:
            self.assertEqual(process.stdout.readline(), "seed 1\n")  # it has begun
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=50)
        self.assertEqual(process.returncode, 130)
        self.assertIn("of 100000000 seeds (interrupted), 0 failed", out)

    def test_wrong_arguments_are_refused_with_a_reason(self):
        for words, message in (
                (["--seeds", "5..1"], "--seeds: '5..1' is no range"),
                (["--seeds", "one"], "--seeds: 'one' is no range"),
                (["--seeds"], "--seeds needs a value"),
                (["--jobs", "0"], "--jobs: '0' is no number of threads"),
                (["--set", "lost=1"], "--set: 'lost=1' is no setting; write name=value"),
                (["--fast"], "'--fast' is no option; weir-sim --help lists them")):
            done = weir_sim(*words)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn(message, done.stderr)
            self.assertEqual(done.stdout, "")

    def test_the_help_lists_options_and_settings(self):
        done = weir_sim("--help")
        self.assertEqual(done.returncode, 0)
        for word in ("--seeds A..B", "--jobs N", "--print", "loss", "delay", "rack"):
            self.assertIn(word, done.stdout)


if __name__ == "__main__":
    unittest.main()

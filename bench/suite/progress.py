"""What is being done, how far it is, and about how long it still takes: on standard error."""

import contextlib
import shutil
import sys
import time


def duration(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


class Progress:
    """A line that is written over on a terminal; elsewhere a line for each series."""

    def __init__(self, planned_s, stream=sys.stderr):
        self.planned_s, self.done_s, self.stream = max(planned_s, 1e-3), 0.0, stream
        self.began = self.advanced = time.monotonic()
        self.is_terminal = stream.isatty()
        self.last = None

    def left_s(self):
        """By how the plan has fared so far; nothing is known in the first moments."""
        elapsed = time.monotonic() - self.began
        pace = elapsed / self.done_s if self.done_s > 0.05 * self.planned_s else 1.0
        return max(0.0, (self.planned_s - self.done_s) * pace)

    def show(self, series, what):
        share = min(99, int(100 * self.done_s / self.planned_s))
        head = f"[{share:2} %] {series}"
        if self.is_terminal:
            text = f"{head}: {what}; about {duration(self.left_s())} left"
            self.write_over(text)
        elif series != self.last:
            self.write(f"{head}; about {duration(self.left_s())} left\n")
        self.last = series

    def advance(self, seconds):
        self.done_s += seconds
        self.advanced = time.monotonic()

    def skip(self, seconds):
        """What will not be done after all; how long its failing took says nothing about the rest."""
        self.planned_s = max(self.planned_s - seconds, self.done_s, 1e-3)
        self.began += time.monotonic() - self.advanced
        self.advanced = time.monotonic()

    def clear(self):
        if self.is_terminal:
            self.write_over("")

    def write_over(self, text):
        width = shutil.get_terminal_size().columns - 1
        self.write(f"\r{text[:width]:<{width}}\r")

    def write(self, text):
        tell(text, end="", file=self.stream)


def tell(text, end="\n", file=None):
    """On standard error; a measurement does not fail because nobody is told of it."""
    with contextlib.suppress(OSError):
        print(text, end=end, file=file or sys.stderr, flush=True)

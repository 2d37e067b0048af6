"""What was asked for, measured round by round: a round is everything that is due in it, on hosts of its own, so that
the rounds of a row are spread over the whole run."""

import difflib
import fnmatch
import importlib

import interrupts
from checks import BadWords
from programs import LabError
from progress import Progress, tell

GROUPS = ("l4", "services", "tcp", "l7", "control")
ROUNDS, QUICK_ROUNDS = 5, 3
FAILED_MAX = 600  # letters of why something could not be measured


def ids(groups):
    return [row.id for group in groups for series in group.series for row in series.rows]


def check_patterns(patterns, everything, asked):
    """Each has to name a row of a group that was asked for: a run without it would be half an hour for nothing."""
    for pattern in patterns:
        if fnmatch.filter(ids(asked), pattern):
            continue
        elsewhere = sorted({group.name for group in everything if fnmatch.filter(ids([group]), pattern)})
        if elsewhere:
            raise BadWords(f"--rows {pattern}: is of {', '.join(elsewhere)}, and only "
                           f"{', '.join(group.name for group in asked)} was asked for; name it as well, or no group")
        near = difflib.get_close_matches(pattern, ids(everything), 3)
        raise BadWords(f"--rows {pattern}: no row has such an id; "
                       + (f"did you mean {' or '.join(near)}?" if near else "they are in bench/README.md"))


class Run:
    """The groups that were asked for, and what they have told so far."""

    def __init__(self, quick, rounds, groups=(), rows=()):
        self.quick, self.patterns = quick, rows
        self.rounds = rounds or (QUICK_ROUNDS if quick else ROUNDS)
        everything = [importlib.import_module(name).Group(quick) for name in GROUPS]
        self.groups = [group for group in everything if not groups or group.name in groups]
        check_patterns(rows, everything, self.groups)
        for group in self.groups:
            group.series = [series for series in group.series if self.wants(series)]
        self.groups = [group for group in self.groups if group.series]
        self.progress = Progress(sum(map(self.planned_s, self.groups)))

    def wants(self, series):
        if not self.patterns:
            return series.in_quick or not self.quick
        return any(fnmatch.fnmatchcase(row.id, pattern) for row in series.rows for pattern in self.patterns)

    def ids(self):
        return ids(self.groups)

    def planned_s(self, group):
        hosted = [series.count(self.rounds) for series in group.series if series.needs_hosts]
        return group.setup_s * max(hosted, default=0) + sum(
            series.planned_s() * series.count(self.rounds) for series in group.series)

    def measure(self):
        for number in range(self.rounds):
            for group in self.groups:
                self.measure_group(group, [series for series in group.series if series.is_due(number)], number)
        self.progress.clear()

    def measure_group(self, group, due, number):
        hosted = [series for series in due if series.needs_hosts]
        if not hosted and any(series.needs_hosts and number < series.count(self.rounds) for series in group.series):
            self.progress.skip(group.setup_s)  # all have failed
        stand = False
        try:
            if hosted:
                if group.setup_s:
                    self.show(group.name, number, "making its hosts")
                with group:
                    stand = True
                    self.progress.advance(group.setup_s)
                    for series in hosted:
                        self.measure_series(group, series, number)
        except Exception as error:  # pylint: disable=broad-except
            # Of hosts that could not be made, or not taken down; rows that are there must not be lost for it.
            interrupts.check()
            tell(f"\nweir bench: {group.name}: {words_of(error)}")
            if not stand:
                self.progress.skip(group.setup_s)
            for series in hosted:
                if len(series.rounds) <= number and not series.failed:
                    self.fail(series, words_of(error), series.planned_s() * (series.count(self.rounds) - number))
        for series in due:
            if not series.needs_hosts:
                self.measure_series(group, series, number)
        interrupts.check()

    def measure_series(self, group, series, number):
        left_s = series.planned_s() * (series.count(self.rounds) - number)
        try:
            if series.needs_hosts and (why := group.why()):
                raise LabError(why)
            for kind in series.round(number):
                self.show(f"{group.name}: {series.name}", number, kind)
                series.rounds[-1] |= series.measure(kind)
                self.progress.advance(series.seconds)
                left_s -= series.seconds
                interrupts.check()
        except Exception as error:  # pylint: disable=broad-except
            interrupts.check()
            words = words_of(error)  # what others print may be anything
            why = series.needs_hosts and group.why()
            self.fail(series, f"{why}; {words}" if why and why != words else words, left_s)

    def fail(self, series, why, left_s):
        series.failed = why[:FAILED_MAX]
        self.progress.skip(left_s)

    def show(self, what, number, turn):
        self.progress.show(f"round {number + 1} of {self.rounds}, {what}", turn)

    def documents(self):
        return [row for group in self.groups for series in group.series for row in series.documents()]


def words_of(error):
    return str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"

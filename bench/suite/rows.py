"""A row of results: what was measured in rounds, what it is held against, and the verdict.

Numbers of a round are a dict, kind of contender → {key: value}; a row picks its own out of them.
"""

import dataclasses
import math
import re
import statistics

WEIR = "weir"
CLIENT_BOUND = "client_bound"  # the key under which a contender says that not it was the limit
# Student's t, 0.975, by the number of rounds.
T = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
T_OF_MORE = 2.23  # of eleven
WIDEST = 100  # of a spread on a logarithmic scale: all the same, and still a number
MEDIAN = 1.4  # the variance of a median of three to nine rounds, over that of their mean


def spread_of(numbers, is_ratio):
    """Where the median of another run of as many rounds is to be expected, 19 times of 20, by how far these are
    apart: a prediction interval, of ratios on a logarithmic scale. One round does not know."""
    if len(numbers) < 2:
        return None
    middle = statistics.median(numbers)
    shown = [math.log(number) for number in numbers] if is_ratio else numbers
    width = T.get(len(numbers), T_OF_MORE) * statistics.stdev(shown) * math.sqrt(2 * MEDIAN / len(numbers))
    if is_ratio:
        width = min(width, WIDEST)
        return [middle * math.exp(-width), middle * math.exp(width)]
    return [middle - width if min(numbers) < 0 else max(0, middle - width), middle + width]


@dataclasses.dataclass(frozen=True)
class Target:
    """">= 2.5x" is of the ratio, "<= 150" of the value."""

    text: str

    def __post_init__(self):
        if not re.fullmatch(r"(<=|>=) [\d.]+x?", self.text):
            raise ValueError(f"target '{self.text}': expected <= or >=, a number, and x for a ratio")

    @property
    def of_ratio(self):
        return self.text.endswith("x")

    @property
    def bound(self):
        return float(self.text.removesuffix("x")[3:])

    @property
    def wants_more(self):
        return self.text.startswith(">=")

    def met(self, number):
        return number >= self.bound if self.wants_more else number <= self.bound

    def missed_by(self, number):
        """As a share of the bound."""
        return abs(number - self.bound) / self.bound if self.bound else abs(number)


@dataclasses.dataclass
class Row:
    """`peers`: whoever of them does best by `key` is the reference. `key` may name another one for peers."""

    id: str
    what: str
    unit: str
    key: str
    peers: tuple = ()
    target: str = ""
    more: bool = True  # is better
    peer_key: str = ""

    def values(self, rounds, kind=WEIR):
        key = self.key if kind == WEIR else self.peer_key or self.key
        return [numbers[kind][key] for numbers in rounds if key in numbers.get(kind, {})]

    def best_peer(self, rounds):
        known = [peer for peer in self.peers if self.values(rounds, peer)]
        if not known:
            return None
        pick = max if self.more else min
        return pick(known, key=lambda peer: statistics.median(self.values(rounds, peer)))

    def ratios(self, rounds, peer):
        """Of rounds in which both were measured and are above zero: a difference may be lost in noise."""
        other = self.peer_key or self.key
        pairs = [(numbers[WEIR].get(self.key), numbers[peer].get(other)) for numbers in rounds
                 if WEIR in numbers and peer in numbers]
        return [mine / theirs for mine, theirs in pairs if mine and theirs and mine > 0 and theirs > 0]

    def document(self, rounds, failed=None):
        """The row as JSON has it; `failed` says why there is less than there should be."""
        values, peer = self.values(rounds), self.best_peer(rounds)
        value = statistics.median(values) if values else None
        references = self.values(rounds, peer) if peer else []
        ratios = self.ratios(rounds, peer) if peer else []
        ratio = statistics.median(ratios) if 2 * len(ratios) > len(values) else None
        target = Target(self.target) if self.target else None
        shown = ratios if ratio is not None else values
        judged = None if target is None or failed else ratio if target.of_ratio else value
        bound = [kind for kind in (WEIR, peer) if kind and self.is_bound(rounds, kind)]
        document = {"id": self.id, "what": self.what, "value": value, "unit": self.unit,
                    "reference": peer, "reference_value": statistics.median(references) if peer else None,
                    "ratio": ratio, "spread": spread_of(shown, ratio is not None),
                    "target": self.target or None, "verdict": self.verdict(target, judged, bound, peer)}
        if document["verdict"] == "missed":
            document["missed_by"] = target.missed_by(judged)
        more = target.wants_more if target and target.of_ratio else self.more
        document |= {"bound": bound, "more_is_better": more, "rounds": len(shown), "samples": shown, "failed": failed,
                     "others": {kind: statistics.median(self.values(rounds, kind))
                                for kind in self.peers if kind != peer and self.values(rounds, kind)}}
        return document

    def is_bound(self, rounds, kind):
        marks = [bool(numbers.get(kind, {}).get(CLIENT_BOUND)) for numbers in rounds]
        return bool(marks) and sum(marks) * 2 > len(marks)

    def verdict(self, target, judged, bound, peer):
        """What the client limited says nothing against Weir, nor for it where it was the peer's limit."""
        if target is None:
            return "client-bound" if bound else None
        if judged is None:
            return None
        met = target.met(judged)
        if (peer if met else WEIR) in bound:
            return "client-bound"
        return "met" if met else "missed"


class Series:
    """Contenders that take turns, and the rows that are read from what they did. `measure(kind)` is one
    turn; `seconds` is about what it takes; `once` where a second round would tell nothing new; `needs_hosts` where
    those of its group have to stand."""

    def __init__(self, name, kinds, measure, rows, seconds, once=False, in_quick=True, needs_hosts=True):
        self.name, self.kinds, self.measure, self.rows = name, kinds, measure, rows
        self.seconds, self.once, self.in_quick, self.needs_hosts = seconds, once, in_quick, needs_hosts
        self.rounds = []  # the one that is under way is the last
        self.failed = None
        self.finish_round = None  # what can only be said of all contenders together

    def count(self, rounds):
        return 1 if self.once else rounds

    def is_due(self, number):
        return not self.failed and (number == 0 or not self.once)

    def planned_s(self):
        """Of a round."""
        return self.seconds * len(self.kinds)

    def round(self, number):
        """Who has a turn in it, one after the other; who begins changes, so that nobody always comes after
        somebody."""
        self.rounds.append({})
        start = number % len(self.kinds)
        yield from self.kinds[start:] + self.kinds[:start]
        if self.finish_round:
            self.finish_round(self.rounds[-1])

    def documents(self):
        rounds = [numbers for numbers in self.rounds if numbers]
        return [row.document(rounds, self.failed or (None if row.values(rounds) else "not measured"))
                for row in self.rows]

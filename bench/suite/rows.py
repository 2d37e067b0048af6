"""A row of results: what was measured in rounds, what it is held against, and the verdict.

Numbers of a round are a dict, kind of contender → {key: value}; a row picks its own out of them.
"""

import dataclasses
import re
import statistics

WEIR = "weir"
CLIENT_BOUND = "client_bound"  # the key under which a contender says that not it was the limit


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
                    "ratio": ratio, "spread": [min(shown), max(shown)] if shown else None,
                    "target": self.target or None, "verdict": self.verdict(target, judged, bound, peer)}
        if document["verdict"] == "missed":
            document["missed_by"] = target.missed_by(judged)
        more = target.wants_more if target and target.of_ratio else self.more
        document |= {"bound": bound, "more_is_better": more, "rounds": len(values), "failed": failed,
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
    turn; `seconds` is about what it takes; `once` where a second round would tell nothing new."""

    def __init__(self, name, kinds, measure, rows, seconds, once=False, in_quick=True):
        self.name, self.kinds, self.measure, self.rows = name, kinds, measure, rows
        self.seconds, self.once, self.in_quick = seconds, once, in_quick
        self.rounds = []  # the one that is under way is the last
        self.failed = None
        self.finish_round = None  # what can only be said of all contenders together

    def count(self, rounds):
        return 1 if self.once else rounds

    def turns(self, rounds):
        """Round by round; who begins changes, so that nobody always comes after somebody."""
        for number in range(self.count(rounds)):
            self.rounds.append({})
            start = number % len(self.kinds)
            for kind in self.kinds[start:] + self.kinds[:start]:
                yield number, kind
            if self.finish_round:
                self.finish_round(self.rounds[-1])

    def documents(self):
        rounds = [numbers for numbers in self.rounds if numbers]
        return [row.document(rounds, self.failed or (None if row.values(rounds) else "not measured"))
                for row in self.rows]

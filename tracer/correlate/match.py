# SPDX-License-Identifier: Apache-2.0
"""Which tool calls an alert may have come of, ranked, with how sure that is, and why.

Evidence is weighed as log-odds: does the call's text stand in what the alert's process or one of its ancestors was
started with; is it the time (after the clocks have been compared); do host and pid agree. What is said to be
the chance of a candidate is its weight among all candidates and the chance that it is none of them.
"""

from __future__ import annotations

import math
import re
import shlex
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from tracer.correlate.logs import ToolCall

#: Clocks may differ so much before a log is taken for another run's.
OFFSET_MAX_S = 60.0
#: Calls are candidates when they began at most so long before, where nothing says when they ended.
WINDOW_S = 600.0
CANDIDATES = 5
#: Texts of fewer characters (`ls`) say nothing about clocks.
_TELLING = 6
#: Two clocks agree when deltas lie this close together.
_BIN_S = 0.25
_WORD = re.compile(r"[\w./:@+-]{2,}")
# Log-odds, natural: a command that stands there as it is; half of its words; none of them; another pid
_SAME_TEXT, _NO_WORDS, _SAME_PID, _OTHER_PID = 6.0, -8.0, 5.0, -2.0
#: Of a dump without times: for each that was written between.
_LATER_FILE = -2.0
#: None of the candidates: an alert has some cause or other even if no line tells of it.
_NONE = -3.0


@dataclass(frozen=True, slots=True)
class Ran:
    """One exec of the alert's process or an ancestor. ``text``: its arguments, joined by blanks."""

    pid: int
    time_ns: int
    text: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Offset:
    """How much the recording's clock is ahead of the log's. ``support``: pairs that say so; 0: it is a guess."""

    seconds: float = 0.0
    spread: float = 1.0
    support: int = 0


@dataclass(slots=True)
class Candidate:
    """One tool call for one alert."""

    call: ToolCall
    chance: float
    why: list[str] = field(default_factory=list)
    weight: float = 0.0


def compare_clocks(calls: Sequence[ToolCall], ran: Iterable[Ran]) -> Offset:
    """From commands that stand in both, each in as few places as possible: where most differences agree."""
    by_text: dict[str, list[int]] = defaultdict(list)
    for exec_ in ran:
        for argument in exec_.arguments[1:]:
            by_text[argument.strip()].append(exec_.time_ns)
        by_text[exec_.text.strip()].append(exec_.time_ns)
    deltas: list[float] = []
    for call in calls:
        text = call.command.strip()
        if len(text) < _TELLING or not call.timed:
            continue
        for time_ns in by_text.get(text, ())[:64]:
            delta = (time_ns - call.time_ns) / 1e9
            if abs(delta) <= OFFSET_MAX_S:
                deltas.append(delta)
    if not deltas:
        return Offset()
    deltas.sort()
    best, where = 0, 0.0
    for delta in deltas:
        count = bisect_right(deltas, delta + _BIN_S) - bisect_left(deltas, delta)
        if count > best:
            best, where = count, delta
    near = deltas[bisect_left(deltas, where) : bisect_right(deltas, where + _BIN_S)]
    middle = median(near)
    spread = max(1.4826 * median(abs(delta - middle) for delta in near), 0.02)
    return Offset(middle, spread if best > 1 else 0.5, best)


def _unquoted(command: str) -> str:
    """As a shell would hand it on: logs quote what they join."""
    try:
        return " ".join(shlex.split(command))
    except ValueError:  # a quotation mark that is none
        return command


class _Said:
    """What a line of processes was started with, to be asked for many commands."""

    def __init__(self, line: Sequence[Ran]) -> None:
        self.line = line
        self.words = [frozenset(_WORD.findall(exec_.text)) for exec_ in line]
        self.all_words: frozenset[str] = frozenset().union(*self.words)
        self._exact: dict[str, Ran] = {}
        for exec_ in line:
            for text in (exec_.text, *exec_.arguments):
                self._exact.setdefault(text.strip(), exec_)

    def whole(self, command: str, words: frozenset[str]) -> Ran | None:
        """Who was started with the whole of ``command``, as an argument or in one."""
        found = self._exact.get(command) or self._exact.get(_unquoted(command))
        if found is not None or len(command) < _TELLING or not words <= self.all_words:
            return found
        return next((exec_ for exec_ in self.line if command in exec_.text), None)


class Matcher:
    """The calls of a log, ready to be asked for many alerts. ``host``: of the recording."""

    def __init__(self, calls: Sequence[ToolCall], offset: Offset, host: str) -> None:
        self.offset = offset
        self._host = host.partition(".")[0].lower()
        # those without a time of their own come behind, and are asked by their words
        self._calls = sorted(calls, key=lambda call: (not call.timed, call.time_ns))
        self._times = [call.time_ns for call in self._calls if call.timed]
        self._written = sorted({call.time_ns for call in calls if not call.timed})
        self._words = [frozenset(_WORD.findall(call.command)) for call in self._calls]
        # what every call says says nothing: a word counts by how few calls have it
        there = Counter(word for words in self._words for word in words)
        self._worth = {word: math.log((len(self._calls) + 1) / n) for word, n in there.items()}

    def candidates(self, time_ns: int, line: Sequence[Ran]) -> list[Candidate]:
        """For an alert at ``time_ns`` (wall clock of the recording); ``line``: what it and its ancestors ran."""
        log_now = time_ns - int(self.offset.seconds * 1e9)
        slack = int((3 * self.offset.spread + 1.0) * 1e9)
        low = bisect_left(self._times, log_now - int(WINDOW_S * 1e9))
        high = bisect_right(self._times, log_now + slack)
        said = _Said(line)
        found = []
        for n in range(low, high):
            call = self._calls[n]
            if call.host and self._host and call.host.partition(".")[0].lower() != self._host:
                continue
            candidate = Candidate(call, 0.0)
            started = self._text(candidate, n, said) or time_ns
            self._time(candidate, started, log_now, slack)
            _pid(candidate, line)
            found.append(candidate)
        found += self._untimed(log_now - slack, said)
        return _ranked(found)

    def _untimed(self, since: int, said: _Said) -> Iterator[Candidate]:
        """Those that were made, at whatever time, before a file that was written ``since`` then."""
        for n in range(len(self._times), len(self._calls)):
            call = self._calls[n]
            if call.time_ns < since or self._words[n].isdisjoint(said.all_words):
                continue
            candidate = Candidate(call, 0.0)
            self._text(candidate, n, said)
            files = bisect_left(self._written, call.time_ns) - bisect_left(self._written, since)
            candidate.weight += _LATER_FILE * files
            candidate.why.append(
                "its file has no times, and was the next to be written"
                if not files
                else f"its file has no times, and {files} others were written before it"
            )
            yield candidate

    def _text(self, candidate: Candidate, n: int, said: _Said) -> int | None:
        """Weigh the words; when whatever says them was started, if anything does."""
        command = candidate.call.command.strip()
        if not command:
            return None
        wanted = self._words[n]
        exec_ = said.whole(command, wanted)
        if exec_ is not None:
            candidate.weight += _SAME_TEXT
            candidate.why.append(f"its command is what pid {exec_.pid} was started with")
            return exec_.time_ns
        if not wanted:
            return None
        candidate.weight += _NO_WORDS
        if wanted.isdisjoint(said.all_words):
            candidate.why.append("none of its words was seen")
            return None
        worth, place = max((self._sum(wanted & words), m) for m, words in enumerate(said.words))
        share = worth / self._sum(wanted)
        candidate.weight += share * (_SAME_TEXT - _NO_WORDS) * 0.8
        exec_ = said.line[place]
        candidate.why.append(
            f"{share:.0%} of what its words are worth stands in what pid {exec_.pid} was started with"
        )
        return exec_.time_ns

    def _sum(self, words: frozenset[str]) -> float:
        return sum(self._worth[word] for word in words)

    def _time(self, candidate: Candidate, started_ns: int, log_now: int, slack: int) -> None:
        call = candidate.call
        late = (started_ns - int(self.offset.seconds * 1e9) - call.time_ns) / 1e9
        if call.end_ns is not None:
            inside = call.time_ns - slack <= log_now <= call.end_ns + slack
            candidate.weight += 1.0 if inside else -6.0
            candidate.why.append("it went on at that time" if inside else "it was over by then")
        sigma = max(3 * self.offset.spread, 0.1) if self.offset.support else 2.0
        candidate.weight += max(-0.5 * (late / sigma) ** 2, -4.0 - math.log1p(abs(late)))
        candidate.why.append(f"{abs(late):.2f} s {'after' if late >= 0 else 'before'} the line")


def _pid(candidate: Candidate, line: Sequence[Ran]) -> None:
    pid = candidate.call.pid
    if pid is None:
        return
    same = any(exec_.pid == pid for exec_ in line)
    candidate.weight += _SAME_PID if same else _OTHER_PID
    candidate.why.append(f"pid {pid} is {'one' if same else 'none'} of its line")


def _ranked(found: list[Candidate]) -> list[Candidate]:
    if not found:
        return []
    top = max(*(c.weight for c in found), _NONE) if len(found) > 1 else max(found[0].weight, _NONE)
    total = math.exp(_NONE - top) + sum(math.exp(c.weight - top) for c in found)
    for candidate in found:
        candidate.chance = math.exp(candidate.weight - top) / total
    found.sort(key=lambda c: (-c.chance, abs(c.call.line)))
    return found[:CANDIDATES]

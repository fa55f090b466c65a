# SPDX-License-Identifier: Apache-2.0
"""How often the right line of a log is found for an alert: made-up logs of a thousand rollouts at once, of which the truth is known.

    python -m bench correlate

Two fifths of what rollouts run is what any of them may run (`ls -la`); the rest names a file of its own. A miner is started by
one of the calls, a moment later. The log's clock is up to five seconds off; of a dump without times, each step is a file.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import NamedTuple

from bench import machine
from tracer.correlate.logs import ToolCall
from tracer.correlate.match import Matcher, Offset, Ran, compare_clocks

SECOND = 1_000_000_000
ROLLOUTS, CALLS = 1000, 4
ASKED = 150
OFFSETS_S = (-5.0, -0.4, 0.0, 3.3, 5.0)
COMMON = ("ls -la", "cat README.md", "git status", "pytest -q", "pwd", "python setup.py build")
#: From one file of a dump to the next.
STEP_S = 20.0
_BEGAN_NS = 1_700_000_000 * SECOND


class Made(NamedTuple):
    """A log, and what was executed: the n-th call is the cause of the n-th exec."""

    calls: list[ToolCall]
    execs: list[Ran]


class Found(NamedTuple):
    """``right``: the likeliest candidate is the cause, of ``asked``; ``sure``: it had a chance above nine tenths."""

    offset: Offset
    asked: int
    right: int
    sure: int
    sure_and_right: int


def call(line: int, time_ns: int, command: str, **more: object) -> ToolCall:
    """One, of which nothing else is known."""
    made = ToolCall(line, time_ns, None, "bash", command, "", "", "", None, "")
    return replace(made, **more)  # type: ignore[arg-type]


def ran(pid: int, time_ns: int, command: str) -> Ran:
    """What an agent executes to run it."""
    return Ran(pid, time_ns, f"bash -c {command}", ("bash", "-c", command))


def made_up(dice: random.Random, offset_s: float) -> Made:
    """``offset_s``: how much the recording's clock is ahead."""
    calls, execs = [], []
    for rollout in range(ROLLOUTS):
        now = _BEGAN_NS + int(dice.uniform(0, 2) * SECOND)
        for step in range(CALLS):
            now += int(dice.uniform(0.5, 8) * SECOND)
            own = f"python solve_{rollout}_{dice.randrange(50)}.py --n {step}"
            command = dice.choice(COMMON) if dice.random() < 0.4 else own
            calls.append(call(len(calls) + 1, now, command, episode=str(rollout), step=str(step)))
            started = now + int((offset_s + dice.uniform(0.005, 0.06)) * SECOND)
            execs.append(ran(len(calls), started, command))
    return Made(calls, execs)


def without_times(made: Made) -> Made:
    """The same as a dump has it: a file for each step, written when that is done."""
    step = int(STEP_S * SECOND)
    calls = [
        replace(c, timed=False, time_ns=_BEGAN_NS + ((c.time_ns - _BEGAN_NS) // step + 1) * step)
        for c in made.calls
    ]
    return Made(calls, made.execs)


def find(made: Made, dice: random.Random, asked: int = ASKED) -> Found:
    """Ask for the cause of some alerts."""
    offset = compare_clocks(made.calls, made.execs)
    matcher = Matcher(made.calls, offset, "host")
    sure = right = sure_and_right = 0
    for n in dice.sample(range(len(made.calls)), asked):
        when = made.execs[n].time_ns + int(dice.uniform(0.01, 2) * SECOND)
        candidates = matcher.candidates(when, [Ran(9999, when, "./xmrig -o x"), made.execs[n]])
        hit = bool(candidates) and candidates[0].call.line == n + 1
        right += hit
        if candidates and candidates[0].chance > 0.9:
            sure += 1
            sure_and_right += hit
    return Found(offset, asked, right, sure, sure_and_right)


def main() -> None:
    """Print the table and keep it."""
    print(machine.headline())
    print(f"{'log':<16}{'clocks, s':>11}{'told off by':>13}{'right':>9}{'sure':>8}{'of these right':>16}")
    kept = []
    for offset_s in OFFSETS_S:
        dice = random.Random(int(offset_s * 10))
        made = made_up(dice, offset_s)
        for name, log in (("with times", made), ("a file a step", without_times(made))):
            f = find(log, dice)
            off = f"{abs(f.offset.seconds - offset_s) * 1e3:.0f} ms" if f.offset.support else "unknown"
            right, sure = f"{f.right / f.asked:.0%}", f"{f.sure / f.asked:.0%}"
            sure_right = f"{f.sure_and_right / f.sure:.1%}" if f.sure else ""
            print(f"{name:<16}{offset_s:+11.1f}{off:>13}{right:>9}{sure:>8}{sure_right:>16}")
            kept.append({"log": name, "offset_s": offset_s, **f._asdict(), "offset": f.offset.seconds})
    machine.keep("correlate", {"correlate": kept})


if __name__ == "__main__":
    main()

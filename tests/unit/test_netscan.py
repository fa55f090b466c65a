# SPDX-License-Identifier: Apache-2.0
"""Places tried in vain: the detector against its twin, for any batching."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from behaviour import SECOND, batched
from naive_scan import NaiveScans
from scan_records import ENDS, Tree, engine, told

ADDRESSES = [
    *(f"10.0.{n // 8}.{n % 8}" for n in range(40)),
    "fd00::1",
    "127.0.0.1",
    "127.0.0.2",
    "::1",
    "203.0.113.1",
]
PORTS = [*range(1, 41), 999, 1000]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fork"), st.integers(0, 9)),
        st.tuples(st.just("exit"), st.integers(1, 9)),
        st.tuples(st.just("wait"), st.integers(1, 8 * SECOND)),
        st.tuples(
            st.just("try"), st.integers(0, 9), st.sampled_from(ADDRESSES), st.sampled_from(PORTS),
            st.sampled_from(sorted(ENDS)),
        ),
        st.tuples(
            st.just("sweep"), st.integers(0, 9), st.integers(0, 39), st.integers(1, 35), st.integers(1, 8),
            st.sampled_from(sorted(ENDS)),
        ),
        st.tuples(st.sampled_from(["die trying", "all die trying"]), st.integers(1, 9), st.sampled_from(ADDRESSES), st.sampled_from(PORTS)),
    ),
    max_size=40,
)  # fmt: skip
LIMITS = st.fixed_dictionaries(
    {
        "addresses": st.sampled_from([2, 3, 20, 32]),
        "ports": st.sampled_from([2, 4, 32]),
        "targets": st.sampled_from([3, 32]),
        "own_ports": st.sampled_from([2, 5, 32]),
        "own_ports_below": st.just(1000),
        "window_s": st.just(10),
    }
)


def play(steps, limits):
    tree, twin = Tree(), NaiveScans(limits)
    twin.fork(100, None)
    people = [100]
    expected = []

    def attempt(who: int, address: str, port: int, end: str, *, dies: int = 0) -> None:
        tree.now += 1000
        cookie = tree.connect(who, address, port)
        twin.connect(who, cookie)
        for one in reversed(twin.line(who)[:dies]):
            if one != 100 and one in twin.alive:
                tree.exit(one)
                twin.exit(one)
        if said := twin.close(who, cookie, address, port, end, tree.now):
            expected.append((tree.now, *said))
        tree.close(who, cookie, address, port, end)

    for what, number, *more in steps:
        who = people[number % len(people)] if what != "wait" else 0
        if what == "fork" and who in twin.alive and len(people) < 50:
            people.append(100 + len(people))
            tree.fork(people[-1], who)
            twin.fork(people[-1], who)
        elif what == "wait":
            tree.now += number
        elif who not in twin.alive or (who == 100 and what in ("exit", "die trying", "all die trying")):
            continue
        elif what == "exit":
            tree.exit(who)
            twin.exit(who)
        elif what == "try":
            attempt(who, *more)
        elif what == "sweep":
            first, addresses, ports, end = more
            for address in (ADDRESSES * 2)[first : first + addresses]:
                for port in PORTS[:ports]:
                    attempt(who, address, port, end)
        elif what == "die trying":
            attempt(who, *more, "unanswered", dies=1)
        elif what == "all die trying":
            attempt(who, *more, "unanswered", dies=3)
    return tree.records, expected


@settings(max_examples=150, deadline=None)
@given(STEPS, LIMITS, st.lists(st.integers(1, 40), max_size=20))
def test_agrees_with_the_twin_for_any_batching(steps, limits, sizes):
    played, expected = play(steps, limits)
    whole = told(engine(**limits), played)
    assert told(engine(**limits), *batched(played, sizes)) == whole
    assert [
        (time, who, severity, {key: evidence[key] for key in counted})
        for (time, who, severity, evidence), (*_, counted) in zip(whole, expected, strict=True)
    ] == expected

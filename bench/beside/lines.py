# SPDX-License-Identifier: Apache-2.0
"""What a tracer printed, and which event each line is of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

#: As in work.c.
FIRST_PORT, PORTS = 20_000, 40_000


def arrivals(chunks: Iterable[tuple[int, bytes]]) -> list[tuple[int, str]]:
    """Lines with the time at which their end was there. ``chunks``: time and what was read then."""
    found, rest = [], b""
    for at, data in chunks:
        *whole, rest = (rest + data).split(b"\n")
        found += [(at, line.decode(errors="replace")) for line in whole]
    return found


def number_of(match: re.Match[str], *, hexadecimal: bool = False) -> int | None:
    """What its one group that took part says; None if there is none, and lines come in order."""
    said = [group for group in match.groups() if group is not None]
    return int(said[0], 16 if hexadecimal else 10) if said else None


def first_seen(
    lines: Iterable[tuple[int, str]], pattern: str, *, ports: bool, hexadecimal: bool = False
) -> dict[int, int]:
    """When each event was first told of, by its number. ``ports``: the pattern's group is a port of work.c's."""
    seen: dict[int, int] = {}
    expression = re.compile(pattern)
    in_order = 0
    for at, line in lines:
        match = expression.search(line)
        if match is None:
            continue
        number = number_of(match, hexadecimal=hexadecimal and ports)
        if number is None:
            number, in_order = in_order, in_order + 1
        elif ports:
            number -= FIRST_PORT
            if not 0 <= number < PORTS:
                continue
        seen.setdefault(number, at)
    return seen


def latencies(seen: dict[int, int], began: Sequence[int]) -> tuple[list[float], int]:
    """µs from each event's begin to its line, and how many have none."""
    told = [number for number in seen if number < len(began)]
    return [(seen[number] - began[number]) / 1000 for number in sorted(told)], len(began) - len(told)


def count(text: Iterable[str], pattern: str) -> int:
    """How many lines it is found in."""
    expression = re.compile(pattern)
    return sum(expression.search(line) is not None for line in text)


def said_lost(text: str, pattern: str) -> int | None:
    """The sum of what it says it has lost; None if it says nothing of the kind."""
    found = re.findall(pattern, text)
    return sum(map(int, found)) if found else None

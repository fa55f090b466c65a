# SPDX-License-Identifier: Apache-2.0
"""Places put together by their ports: which of them may be reached on which.

Ports are cut where entries begin and end, so that each lies in one set only: whatever is said of a port
stands in one place, and rules need one alternative a set. ``a:80-90`` and ``b:85`` make two sets:
on 80-84 and 86-90 it is a, on 85 it is a or b.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from tracer.rules.numbers import port_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracer.policy.places import Place

#: Each costs up to three signals and an alternative that every connection is compared with.
PORT_SETS_MAX = 16

_PROTOCOLS = {6: "tcp/", 17: "udp/"}
Spans = set[tuple[int, int]]


class PortSet(NamedTuple):
    """Places reached on the same ports (None: on any, and over any protocol). No port is in two sets."""

    networks: tuple[str, ...]
    hosts: tuple[str, ...]
    ports: tuple[str, ...] | None


def port_sets(places: Sequence[Place]) -> list[PortSet]:
    """``places`` by their ports; those on any port come first."""
    found = []
    anywhere = [place for place in places if place.ports is None]
    if anywhere:
        found.append(PortSet(*_targets(anywhere), None))
    by_targets: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[int, Spans]] = {}
    begins: dict[int, dict[int, list[Place]]] = {6: {}, 17: {}}
    ends: dict[int, dict[int, list[Place]]] = {6: {}, 17: {}}
    for place in places:
        for first, last in port_ranges(place.ports) if place.ports is not None else ():
            begins[first >> 16].setdefault(first & 0xFFFF, []).append(place)
            ends[first >> 16].setdefault((last & 0xFFFF) + 1, []).append(place)
    # both protocols are cut alike: what is the same of both is told by its spans
    cuts = sorted({cut for edges in (begins, ends) for by_port in edges.values() for cut in by_port})
    for protocol in _PROTOCOLS:
        here: list[Place] = []
        for first, behind in pairwise(cuts):
            for place in ends[protocol].get(first, ()):
                here.remove(place)
            here += begins[protocol].get(first, ())
            if here:
                spans = by_targets.setdefault(_targets(here), {6: set(), 17: set()})
                spans[protocol].add((first, behind - 1))
    found += [PortSet(*targets, _written(by_protocol)) for targets, by_protocol in by_targets.items()]
    return found


def _targets(places: Iterable[Place]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    networks = {network for place in places for network in place.networks}
    hosts = {place.host for place in places if place.host is not None}
    return tuple(sorted(networks)), tuple(sorted(hosts))


def _written(spans: dict[int, Spans]) -> tuple[str, ...]:
    """Spans of ports as rule files have them: without a protocol where TCP and UDP are alike."""
    both = spans[6] & spans[17]
    found = joined(both)
    texts = [span_text(*span) for span in found]
    for protocol, prefix in _PROTOCOLS.items():
        texts += [prefix + span_text(*span) for span in joined(spans[protocol] - both)]
    return tuple(texts)


def joined(spans: Spans) -> list[tuple[int, int]]:
    """In order, with neighbours made one."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if found and found[-1][1] + 1 == first:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return found


def span_text(first: int, last: int) -> str:
    """As policies and rule files write it."""
    return str(first) if first == last else f"{first}-{last}"

# SPDX-License-Identifier: Apache-2.0
"""The hash, compiled, is what Python says it is: for numbers of any size, and for those known to be small."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tracer.detect.mixing import mixed
from tracer.engine.names import _home, make_names
from tracer.jit import njit

_WORD = (1 << 64) - 1
WORDS = st.integers(-(1 << 63), (1 << 63) - 1)


def said(high: int, low: int) -> int:
    value = (high ^ low * 0x9E3779B97F4A7C15) & _WORD
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    return value >> 20


@njit
def _of_words(high: int, low: int) -> int:
    return mixed(high, low)


@njit
def _of_a_port(high: int, port: int) -> int:
    # in this shape a signed product put every port into one place
    return mixed(mixed(high & 0xFFFF, 7), (port & 0xFFFF) << 2 | 1)


@njit
def _home_of_ipv4(names, address: int) -> int:
    return _home(names, 0, address & 0xFFFFFFFF | 0xFFFF << 32)


@given(WORDS, WORDS)
def test_of_any_words(high: int, low: int):
    assert _of_words(high, low) == said(high, low)


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_of_small_ones(high: int, port: int):
    assert _of_a_port(high, port) == said(said(high, 7), port << 2 | 1)


def test_ports_lie_apart():
    assert len({_of_a_port(1, port) & 0xFFF for port in range(0x4000)}) > 0xF00


def test_names_of_addresses_lie_apart():
    names = make_names(1 << 12)
    homes = {_home_of_ipv4(names, 0xC6336400 + number) for number in range(4096)}
    assert len(homes) > 200

# SPDX-License-Identifier: Apache-2.0
"""How facts are numbered: what probes, kernels and rules agree on without saying."""

from __future__ import annotations

from tracer.detect.facts import (
    FACT_BIT,
    FACT_WORDS,
    FACTS,
    FIRST_GROUP,
    INTERPRETER_FACTS,
    PROBE_FACTS,
    WORD_BITS,
    WORDS,
)
from tracer.detect.wire.protocols import PROTOCOL, TRAIT_BIT
from tracer.rules.model import ON
from tracer.triage.names import FILE_FACTS

BY_NAME = {fact.name: fact for fact in FACTS}


def test_facts_of_one_kind_of_event_never_share_a_bit():
    for on in ON:
        bits = [FACT_BIT[fact.name] for fact in FACTS if on in fact.on]
        assert len(bits) == len(set(bits))
        assert all(0 <= bit < FIRST_GROUP for bit in bits)


def test_names():
    assert len(BY_NAME) == len(FACTS) == len(FACT_BIT)
    for fact in FACTS:
        assert fact.on
        assert set(fact.on) <= set(ON)
        assert fact.meaning


def test_protocols_and_traits_stand_where_kernels_put_them():
    for name, number in PROTOCOL.items():
        assert FACT_BIT[name] == WORD_BITS + number
        assert BY_NAME[name].on == ("flow",)
    for name, bit in TRAIT_BIT.items():
        assert FACT_BIT[name] == bit
    assert max(PROTOCOL.values()) < WORD_BITS


def test_facts_that_code_writes_as_a_word_lie_in_the_first():
    assert all(FACT_BIT[fact.name] < WORD_BITS for fact in FACTS if fact.name not in PROTOCOL)
    assert [FACT_BIT[name] for name, _ in FILE_FACTS] == list(range(len(FILE_FACTS)))
    assert FIRST_GROUP == FACT_WORDS * WORD_BITS < WORDS * WORD_BITS


def test_what_is_said_of_facts_of_probes():
    assert all(BY_NAME[name].on == ("exec",) for name in (*PROBE_FACTS, *INTERPRETER_FACTS))
    assert not set(PROBE_FACTS) & set(INTERPRETER_FACTS)

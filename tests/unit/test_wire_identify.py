# SPDX-License-Identifier: Apache-2.0
"""First bytes are told for what they are; whatever they are, nothing beside them is read."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracer.detect.wire import spans
from tracer.detect.wire.identify import identify
from tracer.detect.wire.protocols import PROTOCOL, PROTOCOLS, TRAIT_BIT, TRAITS

sys.path.insert(0, str(Path(__file__).parent.parent))
import naive_wire
from wire_bytes import Sample
from wire_samples import HARMLESS, SAMPLES

EVERYTHING = (*SAMPLES, *HARMLESS)
IDS = [f"{number}-{sample.expected}" for number, sample in enumerate(EVERYTHING)]
GUARD = 600


def look_of(sample: Sample, size: int) -> np.ndarray:
    look = np.zeros(spans.LOOK, np.int64)
    look[spans.DIRECTION] = sample.received
    look[spans.TRANSPORT] = sample.transport
    look[spans.REMOTE_PORT] = sample.port
    look[spans.LOCAL_PORT] = 51234
    look[spans.FIRST] = sample.first or len(sample.data)
    look[spans.WHOLE] = size
    for name, value in sample.look.items():
        look[getattr(spans, name)] = value
    return look


def run(data: bytes, look: np.ndarray, poison: int = 0) -> naive_wire.Verdict:
    """What identify() says of ``data``, with ``poison`` before and behind it."""
    array = np.full(len(data) + 2 * GUARD, poison, np.uint8)
    array[GUARD : GUARD + len(data)] = np.frombuffer(data, np.uint8)
    before = array.copy()
    text = np.full(spans.TEXT, poison, np.uint8)
    out = np.full(spans.OUT, poison, np.int64)
    lo, hi = np.int64(GUARD), np.int64(GUARD + len(data))
    number = identify(array, lo, hi, look, text, out)
    assert np.array_equal(array, before)
    host = b""
    if out[spans.HOST_IN] == spans.IN_DATA:
        assert lo <= out[spans.HOST_LO] < out[spans.HOST_HI] <= hi
        host = bytes(array[out[spans.HOST_LO] : out[spans.HOST_HI]])
    elif out[spans.HOST_IN]:
        assert out[spans.HOST_IN] == spans.IN_TEXT
        assert 0 <= out[spans.HOST_LO] < out[spans.HOST_HI] <= spans.TEXT
        host = bytes(text[out[spans.HOST_LO] : out[spans.HOST_HI]])
    software = b""
    if out[spans.SOFTWARE_HI]:
        assert lo <= out[spans.SOFTWARE_LO] <= out[spans.SOFTWARE_HI] <= hi
        software = bytes(array[out[spans.SOFTWARE_LO] : out[spans.SOFTWARE_HI]])
    assert 0 <= number <= len(PROTOCOLS)
    assert 0 <= out[spans.TRAITS] < 1 << len(TRAITS)
    traits = frozenset(trait.name for bit, trait in enumerate(TRAITS) if out[spans.TRAITS] >> bit & 1)
    return naive_wire.Verdict(PROTOCOLS[number - 1].name if number else None, traits, host, software)


def whole(sample: Sample) -> naive_wire.Verdict:
    data = sample.data[: spans.CAPTURE]
    return run(data, look_of(sample, len(sample.data)))


@pytest.mark.parametrize("sample", EVERYTHING, ids=IDS)
def test_samples(sample):
    verdict = whole(sample)
    assert verdict.protocol == sample.expected
    assert set(sample.traits.split()) <= verdict.traits
    assert verdict.host == sample.host
    if sample.software:
        assert verdict.software == sample.software


def test_every_protocol_has_a_sample():
    assert {sample.expected for sample in EVERYTHING} == {*PROTOCOL, None}


def test_every_trait_has_a_sample():
    seen = frozenset().union(*(whole(sample).traits for sample in EVERYTHING))
    assert set(TRAIT_BIT) - seen <= {"tls-ech", "tls-outdated", "icmp-large", "dns-long-name", "server-first"}


def test_names_are_unique_and_readable():
    names = [*PROTOCOL, *TRAIT_BIT]
    assert len(names) == len(set(names))
    assert all(name.replace("-", "").isalnum() and name.islower() for name in names)


@pytest.mark.parametrize("sample", EVERYTHING, ids=IDS)
def test_every_truncation(sample):
    """Cut anywhere, the twin says the same, and what lies beside the bytes decides nothing."""
    data = sample.data[: spans.CAPTURE]
    for size in {*range(min(len(data), 64)), *range(64, len(data), 7), len(data)}:
        look = look_of(sample, size)
        look[spans.FIRST] = (
            min(size, look[spans.FIRST]) if sample.transport == spans.TCP else look[spans.FIRST]
        )
        verdict = run(data[:size], look)
        assert verdict == run(data[:size], look, 0xFF) == run(data[:size], look, 0x22)
        assert verdict == naive_wire.identify(data[:size], look.tolist()), size


@pytest.mark.parametrize("sample", SAMPLES, ids=IDS[: len(SAMPLES)])
def test_labels_only_get_better(sample):
    """With more of a stream, what was known stays known, and ends as what it is."""
    look = look_of(sample, len(sample.data))
    if sample.transport != spans.TCP:
        return
    data = sample.data[: spans.CAPTURE] + b"more" * 4
    first = sample.first or len(sample.data)
    labels = [run(data[:size], look).protocol for size in range(min(first, len(data)), len(data) + 1)]
    known = [label for label in labels if label is not None]
    assert labels[len(labels) - len(known) :] == known
    assert not known or known[-1] == sample.expected


LOOKS = st.builds(
    lambda direction, transport, remote, accepted, first, other, other_first, spoke, traits: [
        direction,
        transport,
        remote,
        443,
        accepted,
        first,
        first,
        other,
        other_first,
        spoke,
        traits,
    ],
    st.integers(0, 1),
    st.sampled_from([spans.TCP, spans.UDP, spans.ICMP]),
    st.sampled_from([0, 22, 53, 80, 123, 443, 8443, 1080, 3333]),
    st.integers(0, 1),
    st.sampled_from([0, 2, 3, 37, 64, 128, 148, 234, 1200]),
    st.integers(0, len(PROTOCOLS)),
    st.sampled_from([0, 64, 170, 234]),
    st.integers(0, 1),
    st.sampled_from([0, 1 << TRAIT_BIT["proxied"]]),
)


@st.composite
def mutated(draw) -> bytes:
    """A sample with a few bytes changed, cut out or put in, perhaps another one behind it."""
    data = bytearray(draw(st.sampled_from(EVERYTHING)).data[: spans.CAPTURE])
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.integers(0, 2))
        if kind == 0 and data:
            data[at] = draw(st.sampled_from([0, 1, 2, 3, 5, 10, 13, 32, 34, 64, 92, 127, 192, 255]))
        elif kind == 1:
            del data[at : at + draw(st.integers(1, 8))]
        else:
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
    if draw(st.booleans()):
        data += draw(st.sampled_from(EVERYTHING)).data
    return bytes(data[: spans.CAPTURE])


@settings(max_examples=1500)
@given(mutated(), LOOKS)
def test_agrees_with_the_plain_twin(data, look):
    array = np.array(look, np.int64)
    verdict = run(data, array)
    assert verdict == run(data, array, 0xFF)
    assert verdict == naive_wire.identify(data, look)


@settings(max_examples=500)
@given(st.binary(max_size=spans.CAPTURE), LOOKS)
@example(b"", [0] * spans.LOOK)
def test_any_bytes(data, look):
    array = np.array(look, np.int64)
    verdict = run(data, array)
    assert verdict == run(data, array, 0x16)
    assert verdict == naive_wire.identify(data, look)


def test_accepted_flows_are_judged_by_the_local_port():
    look = np.zeros(spans.LOOK, np.int64)
    look[spans.TRANSPORT], look[spans.REMOTE_PORT], look[spans.LOCAL_PORT] = spans.TCP, 50000, 22
    look[spans.ACCEPTED] = look[spans.DIRECTION] = 1
    assert run(b"SSH-2.0-x\r\n", look).traits == frozenset()
    look[spans.LOCAL_PORT] = 2222
    assert run(b"SSH-2.0-x\r\n", look).traits == {"protocol-on-foreign-port"}


def test_few_random_keys_look_like_something_else():
    """A key that happens to begin as text, or holds much of it, is a key all the same."""
    random = np.random.default_rng(7)
    samples = [Sample("stratum-v2", random.bytes(64), look={"OTHER_FIRST": 234}) for _ in range(20_000)]
    missed = [sample.data.hex() for sample in samples if whole(sample).protocol != "stratum-v2"]
    assert len(missed) <= 10, missed

# SPDX-License-Identifier: Apache-2.0
"""CRC-32 of what is long: zlib's."""

from __future__ import annotations

import random
import zlib

from hypothesis import given
from hypothesis import strategies as st

from tracer.record import checksum


@given(
    st.sampled_from([0, 1, 4095, 4096, 4097]) | st.integers(4096, 70_000),
    st.integers(0, 1 << 32),
    st.sampled_from([0, 1, 0xFFFFFFFF]) | st.integers(0, 0xFFFFFFFF),
)
def test_is_what_zlib_says(length: int, seed: int, value: int):
    data = random.Random(seed).randbytes(length)
    assert checksum.crc32(data, value) == checksum.crc32(memoryview(data), value) == zlib.crc32(data, value)


def test_where_the_processor_can_not(monkeypatch):
    monkeypatch.setattr(checksum, "fold", lambda *_: 0)
    data = bytes(range(256)) * 100
    assert checksum.crc32(data, 7) == zlib.crc32(data, 7)

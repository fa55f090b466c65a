# SPDX-License-Identifier: Apache-2.0
"""The kernel's classic BPF machine, as far as seccomp filters need it, one instruction after the other."""

from __future__ import annotations

import struct

LD_W_ABS, JEQ, JGE, JSET, JA, RET = 0x20, 0x15, 0x35, 0x45, 0x05, 0x06
INSTRUCTIONS_MAX = 4096


def seccomp_data(number: int, audit: int, arguments: tuple[int, ...] = ()) -> bytes:
    """Struct seccomp_data, as a little-endian kernel lays it out."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    return struct.pack("<IIQ6Q", number & 0xFFFFFFFF, audit, 0x7FFF_0000_1234, *padded)


def run(program: list[tuple[int, int, int, int]], data: bytes) -> int:
    """The verdict of ``program`` about ``data``; whatever the kernel would refuse to load raises."""
    assert 0 < len(program) <= INSTRUCTIONS_MAX
    for code, yes, no, value in program:
        assert 0 <= yes < 256 and 0 <= no < 256 and 0 <= value < 1 << 32 and 0 <= code < 1 << 16
    accumulator, at = 0, 0
    while True:
        code, yes, no, value = program[at]  # IndexError: it runs off its end
        at += 1
        if code == RET:
            return value
        if code == LD_W_ABS:
            assert value % 4 == 0 and value + 4 <= len(data)
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == JA:
            at += value
        else:
            holds = {JEQ: accumulator == value, JGE: accumulator >= value, JSET: bool(accumulator & value)}
            at += yes if holds[code] else no

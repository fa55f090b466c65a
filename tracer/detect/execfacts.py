# SPDX-License-Identifier: Apache-2.0
"""All facts about one exec, found out in one go over the bytes that the kernel wrote."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracer.detect.facts import FACT_BIT, FACTS
from tracer.detect.names import INTERPRETERS, PYTHON, SHELL, Bytes, Ints, byte_at, name_class
from tracer.detect.ssh import NO_CLIENT, ssh_facts, ssh_options
from tracer.detect.wallets import NO_WALLET, pool_address_span, wallet_span
from tracer.jit import njit

# enum exec_flag and enum fd_kind of events.h; a test compares them with the compiled object
FLAG_MEMFD, FLAG_DELETED, FLAG_SCRIPT, FLAG_SETID, FLAG_SECURE, FLAG_ARGS_CUT = (1 << n for n in range(6))
FD_SOCKET = 4

MEMFD, DELETED, SCRIPT, SETID, STDIN, STDOUT, CUT, SHELL_COMMAND, INLINE, WALLET, POOL = (
    1 << FACT_BIT[name]
    for name in (
        "memfd", "deleted", "script", "setid", "stdin-socket", "stdout-socket", "args-cut", "shell-command",
        "inline-code", "wallet", "pool-address",
    )
)  # fmt: skip

# Places in the spans: start and end of what made the fact, within the record
FORWARD_SPAN, WALLET_SPAN, POOL_SPAN = 0, 4, 8
SPANS = 16

_DASH, _LETTER_C, _LETTER_E, _LETTER_R = ord("-"), ord("c"), ord("e"), ord("r")


@njit
def _argument_end(data: Bytes, at: int, hi: int) -> int:
    while at < hi and data[at] != 0:
        at += 1
    return at


@njit
def _is_given_code(data: Bytes, lo: int, hi: int, kind: int) -> bool:
    """Does an option cluster before the first plain argument hold the letter for "code follows"?"""
    at = _argument_end(data, lo, hi) + 1
    while at < hi:
        end = _argument_end(data, at, hi)
        if end - at < 2 or (data[at] != _DASH and data[at] != 43):
            return False
        if data[at + 1] == _DASH:
            if end - at >= 6 and data[at + 2] == _LETTER_E:  # --eval
                return True
        else:
            for i in range(at + 1, end):
                letter = byte_at(data, i) | 32
                if kind & (SHELL | PYTHON):
                    if byte_at(data, i) == _LETTER_C:
                        return True
                elif letter == _LETTER_E or letter == 112 or letter == _LETTER_R:  # -e, -E, -p, -r
                    return True
        at = end + 1
    return False


@njit
def exec_facts(
    data: Bytes,
    path_lo: int,
    path_hi: int,
    name_lo: int,
    name_hi: int,
    args_lo: int,
    args_hi: int,
    flags: int,
    stdin_kind: int,
    stdout_kind: int,
    out: Ints,
) -> int:
    """Fact bits of an exec; ``out`` int64[SPANS] gets the spans of the arguments that made them.

    ``data``: uint8, the whole record; path, the name it was called by and the arguments (each ended by
    NUL, argv[0] first) are given as offsets into it.
    """
    facts = 0
    if flags & FLAG_MEMFD:
        facts |= MEMFD
    if flags & FLAG_DELETED:
        facts |= DELETED
    if flags & FLAG_SCRIPT:
        facts |= SCRIPT
    if flags & FLAG_SETID:
        facts |= SETID
    if flags & FLAG_ARGS_CUT:
        facts |= CUT
    if stdin_kind == FD_SOCKET:
        facts |= STDIN
    if stdout_kind == FD_SOCKET:
        facts |= STDOUT
    first_end = _argument_end(data, args_lo, args_hi)
    kind = name_class(data, path_lo, path_hi) | name_class(data, args_lo, first_end)
    if kind & INTERPRETERS and _is_given_code(data, args_lo, args_hi, kind):
        facts |= SHELL_COMMAND if kind & SHELL else INLINE
    options = ssh_options(data, path_lo, path_hi, name_lo, name_hi)
    if options == NO_CLIENT:
        options = ssh_options(data, args_lo, first_end, args_lo, first_end)
    if options != NO_CLIENT:
        facts |= ssh_facts(data, args_lo, args_hi, options, flags & FLAG_ARGS_CUT != 0, out[:3])
    rest = min(first_end + 1, args_hi)
    if wallet_span(data, rest, args_hi, out[WALLET_SPAN : WALLET_SPAN + 2]) != NO_WALLET:
        facts |= WALLET
    if pool_address_span(data, rest, args_hi, out[POOL_SPAN : POOL_SPAN + 2]):
        facts |= POOL
    return facts


def _find(path: bytes, name: bytes, argv: Sequence[bytes], flags: int) -> tuple[int, bytes, Ints]:
    args = b"".join(a + b"\0" for a in argv)
    text = path + name + args
    data = np.frombuffer(bytearray(text or b"\0"), np.uint8)
    out = np.zeros(SPANS, np.int64)
    a, b, c = len(path), len(path) + len(name), len(text)
    return int(exec_facts(data, 0, a, a, b, b, c, flags, 0, 0, out)), text, out


def describe_facts(path: bytes, name: bytes, args: Sequence[bytes], bits: int) -> dict[str, str]:
    """What in the arguments made the facts ``bits``, for the evidence of an alert."""
    found, text, out = _find(path, name, args, 0)
    evidence: dict[str, str] = {}

    def cut(at: int) -> str:
        return text[int(out[at]) : int(out[at + 1])].decode("utf-8", "backslashreplace")

    names = [fact.name for bit, fact in enumerate(FACTS) if bits & found & 1 << bit]
    if any(n.startswith("ssh-") for n in names):
        letter = int(out[2])
        evidence["forward"] = f"-{chr(letter)} {cut(0)}" if letter else cut(0)
    if "wallet" in names:
        evidence["wallet"] = cut(WALLET_SPAN)
    if "pool-address" in names:
        evidence["pool"] = cut(POOL_SPAN)
    said = [fact.name for bit, fact in enumerate(FACTS) if bits & 1 << bit]
    if said:
        evidence["facts"] = " ".join(said)
    return evidence


def facts_of(argv: Sequence[bytes], *, path: bytes | None = None, flags: int = 0) -> frozenset[str]:
    """Names of the facts about an exec of ``argv``, for tests and ``vigiles rules test``."""
    called = argv[0] if argv else b""
    bits, _, _ = _find(called if path is None else path, called, argv, flags)
    return frozenset(fact.name for bit, fact in enumerate(FACTS) if bits & 1 << bit)

# SPDX-License-Identifier: Apache-2.0
"""All facts about one exec, found out in one go over the bytes that the kernel wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracer.detect.classes import INTERPRETERS, MULTICALL, SHELL
from tracer.detect.facts import FACT_BIT, FACTS
from tracer.detect.interpreters import code_span
from tracer.detect.names import Bytes, Ints, name_class
from tracer.detect.pools import pool_address_span
from tracer.detect.ssh import NO_CLIENT, ssh_facts, ssh_options
from tracer.detect.wallets import KINDS, NO_WALLET, wallet_span
from tracer.jit import njit
from tracer.text import decode

if TYPE_CHECKING:
    from collections.abc import Sequence

# enum exec_flag and enum fd_kind of events.h; a test compares them with the compiled object
FLAG_MEMFD, FLAG_DELETED, FLAG_SCRIPT, FLAG_SETID, FLAG_SECURE, FLAG_ARGS_CUT = (1 << n for n in range(6))
FLAG_ARGS_UNREADABLE = 1 << 8
FD_NETWORK, FD_PIPE = 7, 2

MEMFD, DELETED, SCRIPT, SETID, STDIN, STDOUT, STDIN_PIPE, STDOUT_PIPE, CUT, SHELL_COMMAND, INLINE, WALLET, POOL = (
    1 << FACT_BIT[name]
    for name in (
        "memfd", "deleted", "script", "setid", "stdin-network", "stdout-network", "stdin-pipe", "stdout-pipe", "args-cut", "shell-command",
        "inline-code", "wallet", "pool-address",
    )
)  # fmt: skip

# Places in the spans, each the start and end of what made a fact, as offsets into the record. They say
# something only if the fact is there. After the forward comes the letter of its option, after the wallet
# its kind.
FORWARD_SPAN, WALLET_SPAN, POOL_SPAN, CODE_SPAN = 0, 4, 8, 12
SPANS = 16


@njit
def _argument_end(data: Bytes, at: int, hi: int) -> int:
    while at < hi and data[at] != 0:
        at += 1
    return at


@njit
def _given_code(data: Bytes, lo: int, hi: int, kinds: int, out: Ints) -> int:
    """SHELL_COMMAND and INLINE, for each of the classes ``kinds`` whose options say so."""
    facts = 0
    while kinds:
        kind = kinds & -kinds
        kinds ^= kind
        if code_span(data, lo, hi, kind, out):
            facts |= SHELL_COMMAND if kind == SHELL else INLINE
    return facts


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
    NUL, argv[0] first) are given as offsets into it. ``flags``: enum exec_flag; ``stdin_kind``,
    ``stdout_kind``: enum fd_kind.
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
    if flags & (FLAG_ARGS_CUT | FLAG_ARGS_UNREADABLE):
        facts |= CUT
    if stdin_kind == FD_NETWORK:
        facts |= STDIN
    if stdout_kind == FD_NETWORK:
        facts |= STDOUT
    if stdin_kind == FD_PIPE:
        facts |= STDIN_PIPE
    if stdout_kind == FD_PIPE:
        facts |= STDOUT_PIPE
    # A script's name is not the interpreter's: what a script called ssh does, ssh itself will show.
    if flags & FLAG_SCRIPT:
        name_lo = name_hi
    cut = facts & CUT != 0 or (args_hi > args_lo and data[args_hi - 1] != 0)
    file, called = name_class(data, path_lo, path_hi), name_class(data, name_lo, name_hi)
    first_end = _argument_end(data, args_lo, args_hi)
    first = name_class(data, args_lo, first_end)
    if first & MULTICALL and first_end < args_hi:  # busybox sh -c
        args_lo = first_end + 1
        first_end = _argument_end(data, args_lo, args_hi)
        first = name_class(data, args_lo, first_end)
    # These facts excuse: only the file that runs decides, since argv[0] is whatever the caller likes.
    kinds = (first if file & MULTICALL else file) & INTERPRETERS
    if kinds:
        facts |= _given_code(data, args_lo, args_hi, kinds, out[CODE_SPAN : CODE_SPAN + 2])
    options = ssh_options(file, called | first)
    if options != NO_CLIENT:
        facts |= ssh_facts(data, args_lo, args_hi, options, cut, out[FORWARD_SPAN : FORWARD_SPAN + 3])
    rest = min(first_end + 1, args_hi)
    kind = wallet_span(data, rest, args_hi, out[WALLET_SPAN : WALLET_SPAN + 2])
    if kind != NO_WALLET:
        out[WALLET_SPAN + 2] = kind
        facts |= WALLET
    if pool_address_span(data, rest, args_hi, out[POOL_SPAN : POOL_SPAN + 2]):
        facts |= POOL
    return facts


def _find(path: bytes, name: bytes, args: bytes, flags: int) -> tuple[int, bytes, Ints]:
    """The facts, all the text, and the spans into it."""
    text = path + name + args
    data = np.frombuffer(bytearray(text or b"\0"), np.uint8)
    out = np.zeros(SPANS, np.int64)
    a, b, c = len(path), len(path) + len(name), len(text)
    return int(exec_facts(data, 0, a, a, b, b, c, flags, 0, 0, out)), text, out


def _joined(argv: Sequence[bytes]) -> bytes:
    return b"".join(argument + b"\0" for argument in argv)


_ON_EXEC = [(fact.name, 1 << FACT_BIT[fact.name]) for fact in FACTS if "exec" in fact.on]
_FORWARDS = sum(bit for name, bit in _ON_EXEC if name.startswith("ssh-"))
#: Those that something in the arguments makes.
_ARGUED = _FORWARDS | WALLET | POOL | SHELL_COMMAND | INLINE


def _names(bits: int) -> list[str]:
    return [name for name, bit in _ON_EXEC if bits & bit]


def describe_facts(path: bytes, name: bytes, args: Sequence[bytes] | bytes, bits: int) -> dict[str, str]:
    """What in the arguments made the facts ``bits``, for the evidence of an alert.

    ``args``: the arguments, or all of them as they stand in a record, each ended by NUL.
    """
    found, text, out = 0, b"", np.zeros(0, np.int64)
    if bits & _ARGUED:
        joined = args if isinstance(args, bytes) else _joined(args)
        flags = (FLAG_SCRIPT if bits & SCRIPT else 0) | (FLAG_ARGS_CUT if bits & CUT else 0)
        found, text, out = _find(path, name, joined, flags)
        found &= bits

    def cut(place: int) -> str:
        return decode(text[int(out[place]) : int(out[place + 1])])

    evidence: dict[str, str] = {}
    if found & _FORWARDS:
        evidence["forward"] = f"-{chr(out[FORWARD_SPAN + 2])} {cut(FORWARD_SPAN)}"
    if found & WALLET:
        evidence["wallet"] = cut(WALLET_SPAN)
        evidence["wallet_kind"] = KINDS[out[WALLET_SPAN + 2]]
    if found & POOL:
        evidence["pool"] = cut(POOL_SPAN)
    if found & (SHELL_COMMAND | INLINE):
        evidence["code"] = cut(CODE_SPAN)
    if bits:
        evidence["facts"] = " ".join(_names(bits))
    return evidence


def facts_of(argv: Sequence[bytes], *, path: bytes | None = None, flags: int = 0) -> frozenset[str]:
    """Names of the facts about an exec of ``argv``, for tests and ``vigiles rules test``."""
    called = argv[0] if argv else b""
    bits, _, _ = _find(called if path is None else path, called, _joined(argv), flags)
    return frozenset(_names(bits))

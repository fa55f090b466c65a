# SPDX-License-Identifier: Apache-2.0
"""Wallet addresses among the arguments of a program.

A candidate is a whole run of letters and digits: what stands beside it must be what people write
beside an address (an option's "=", a worker's name after ".", the parts of an URL), so that pieces of
base64, digests and identifiers are none. Coins whose addresses have a checksum that is cheap to
compute are checked by it; those that have no such checksum must be longer or better bounded.
"""

from __future__ import annotations

from tracer.detect.checksums import BASE58, BECH32, base58check, bech32, ton
from tracer.detect.names import Bytes, Ints, byte_at, letters, lookup, table
from tracer.jit import njit

# What an address is told by.
NO_WALLET = 0
CRYPTONOTE = 1
BASE58CHECK = 2
SEGWIT = 3
ETHEREUM = 4
PREFIXED = 5
TON = 6
ERGO = 7
ALEPHIUM = 8
QUBIC = 9
#: For people: by kind.
KINDS = (
    "",
    "CryptoNote",
    "base58check",
    "bech32",
    "Ethereum",
    "prefixed",
    "TON",
    "Ergo",
    "Alephium",
    "Qubic",
)

_ALNUM = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: No address is shorter than the shortest of Bitcoin's.
_SHORTEST = 26
_LONGEST = 128

_RUN = letters(_ALNUM + b"-_")
_IS_ALNUM = letters(_ALNUM)
_IS_HEX = letters(b"0123456789abcdefABCDEF")
_IS_CAPITAL = letters(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_IS_CASHADDR = letters(BECH32)
_IS_CONFLUX = letters(b"0123456789abcdefghjkmnprstuvwxyz")
_IS_BASE58 = letters(BASE58)
#: 1: before any address; 2: before those as well that have little to be told by.
_BEFORE = letters(b"/@;([{<&?#|\n\r", 1) + letters(b"\0=:,\"' \t", 2)
_AFTER = letters(b"\0./+:@,;\"' \t\n\r)]}>&#?|\\")

# Of addresses that begin with the coin's name and a colon: how long the rest is, and its letters
_CONFLUX = 1 << 20


def _lengths(shortest: int, longest: int) -> int:
    return longest << 10 | shortest


_COLON_NAMES = table(
    dict.fromkeys(
        b"kaspa karlsen spectre pyrin pyipad nautilus bugna hoosat sedra waglayla".split(), _lengths(61, 63)
    )
    | {b"nexa": _lengths(47, 63), b"xel": _lengths(58, 64), b"cfx": _CONFLUX | _lengths(42, 42)}
    | dict.fromkeys((b"bitcoincash", b"ecash"), _lengths(42, 42)),
    fold=True,
)
# Of those that are bech32: 2 where the checksum's kind is not published, so that the shape must do
_HUMAN_PARTS = table(
    dict.fromkeys(b"bc ltc dgb vtc grs btg mona sys via zil xch zs ckb aleo xel".split(), 1) | {b"prl": 2}
)

_DIGIT_0, _DIGIT_1, _DIGIT_4, _DIGIT_8, _DIGIT_9 = (ord(digit) for digit in "01489")
_DASH, _COLON, _SLASH, _SMALL_X, _SMALL_A = ord("-"), ord(":"), ord("/"), ord("x"), ord("a")
_E, _J, _O, _Q, _U, _W, _X, _Z = (ord(letter) for letter in "EJOQUWXZ")


@njit
def _all(args: Bytes, lo: int, hi: int, alphabet: Bytes) -> bool:
    while lo < hi and alphabet[args[lo]]:
        lo += 1
    return lo >= hi


@njit
def _is_cryptonote(args: Bytes, lo: int, hi: int) -> bool:
    """Monero's addresses by their length and network byte, and those of some of its descendants."""
    length, first, second = hi - lo, args[lo], args[lo + 1]
    if first in (_DIGIT_4, _DIGIT_8):
        shaped = length == 95 or (length == 106 and first == _DIGIT_4)
        shaped = shaped and (_DIGIT_0 <= second <= _DIGIT_9 or second in (65, 66))
    elif first == _W:  # Wownero
        shaped = length == 97 and second in (_W, 111)
    elif first == _X:  # Dynex
        shaped = length == 97
    else:  # Zephyr
        shaped = (
            97 <= length <= 112 and first == _Z and second == _E and args[lo + 2] == 80 and args[lo + 3] == 72
        )
    return shaped and _all(args, lo, hi, _IS_BASE58)


@njit
def _is_bech32(args: Bytes, lo: int, hi: int) -> bool:
    one = hi - 1
    while one > lo and args[one] != _DIGIT_1:
        one -= 1
    if hi - one < 39 or one - lo > 8:
        return False
    known = lookup(_HUMAN_PARTS, args, lo, one)
    return (known == 1 and bech32(args, lo, one, hi)) or (
        known == 2 and _all(args, one + 1, hi, _IS_CASHADDR)
    )


@njit
def _is_qubic(args: Bytes, lo: int, hi: int) -> bool:
    """Sixty capitals. A line of a protein sequence is that too, but has no J and no O."""
    if hi - lo != 60:
        return False
    foreign = False
    for at in range(lo, hi):
        if not _IS_CAPITAL[args[at]]:
            return False
        foreign |= args[at] in (_J, _O)
    return foreign


@njit
def _colon_name(args: Bytes, lo: int, start: int, end: int) -> int:
    """Where the name begins that makes ``args[start:end]``, after a colon, an address; or -1."""
    name = start - 1
    while name > lo and _IS_ALNUM[args[name - 1]]:
        name -= 1
    known = lookup(_COLON_NAMES, args, name, start - 1)
    if known == 0 and name > lo and args[name - 1] == _DASH:  # -ukaspa:…, an option's letter before it
        name += 1
        known = lookup(_COLON_NAMES, args, name, start - 1)
    if known == 0 or not known & 1023 <= end - start <= known >> 10 & 1023:
        return -1
    alphabet = _IS_CONFLUX if known & _CONFLUX else _IS_CASHADDR
    return name if _all(args, start, end, alphabet) else -1


@njit
def _run_kind(args: Bytes, lo: int, start: int, end: int, weak: bool) -> int:
    """What kind of address the whole run ``args[start:end]`` is; ``weak``: by its shape alone, too."""
    length, first = end - start, byte_at(args, start)
    if length > _LONGEST:
        return 0
    if length == 42 and first == _DIGIT_0:
        shaped = args[start + 1] == _SMALL_X and _all(args, start + 2, end, _IS_HEX)
        return ETHEREUM if shaped else 0
    if length >= 95 and _is_cryptonote(args, start, end):
        return CRYPTONOTE
    if length == 48 and first in (_E, _U) and args[start + 1] == _Q and ton(args, start, end):
        return TON
    if length <= 36:
        # Bitcoin's and all that copied them: LTC, DOGE, RVN, TRX, DASH, with two bytes of version ZEC
        return BASE58CHECK if base58check(args, start, end) in (25, 26) else 0
    if first >= _SMALL_A and _is_bech32(args, start, end):
        return SEGWIT
    if first == _SMALL_A and 50 <= length <= 54 and args[start + 1] == 107 and args[start + 2] == 95:  # ak_
        return BASE58CHECK if base58check(args, start + 3, end) == 36 else 0
    if weak and length == 51 and first == _DIGIT_9 and _all(args, start, end, _IS_BASE58):
        return ERGO
    if weak and length == 45 and first == _DIGIT_1 and _all(args, start, end, _IS_BASE58):
        return ALEPHIUM
    return QUBIC if weak and _is_qubic(args, start, end) else 0


@njit
def _address(args: Bytes, lo: int, hi: int, start: int, end: int, out: Ints) -> int:
    """The kind of address in the run ``args[start:end]`` of ``args[lo:hi]``, by what is around it."""
    if end < hi and not _AFTER[args[end]]:
        return 0
    before = byte_at(args, start - 1) if start > lo else 0
    bound = byte_at(_BEFORE, before)
    if before == 0 and args[start] == _DASH and args[start + 1] != _DASH:
        start += 2  # an option's letter with its value
    if bound == 0 or end - start < _SHORTEST:
        return 0
    out[0], out[1] = start, end
    if before == _COLON:
        name = _colon_name(args, lo, start, end)
        if name >= 0:
            out[0] = name
            return PREFIXED
    if before == _SLASH and start - 1 > lo and args[start - 2] == _SLASH:
        bound = 2  # scheme://ADDRESS
    return _run_kind(args, lo, start, end, bound == 2)


@njit
def wallet_span(args: Bytes, lo: int, hi: int, out: Ints) -> int:
    """The kind of the first wallet address in the arguments ``args[lo:hi]``, 0 if there is none.

    If there is one, ``out`` (2) gets its start and end, without worker or scheme. Runs shorter than any
    address are jumped over, so most bytes are never looked at.
    """
    at = lo
    while at + _SHORTEST <= hi:
        last = at + _SHORTEST - 1
        while last >= at and _RUN[args[last]]:
            last -= 1
        if last >= at:
            at = last + 1
            continue
        end = at + _SHORTEST
        while end < hi and _RUN[args[end]]:
            end += 1
        kind = _address(args, lo, hi, at, end, out)
        if kind != 0:
            return kind
        at = end + 1
    return 0

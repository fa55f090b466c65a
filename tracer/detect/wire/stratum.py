# SPDX-License-Identifier: Apache-2.0
"""Miners and pools: JSON lines of all dialects, JSON-RPC that asks a node for work.

What counts are words at their place in the JSON (the value of "method", names of keys): neither the
order of keys nor spacing nor escapes matter, and a pool's address inside a chat message is nothing.
JSON-RPC by itself is nothing either: language servers, wallets and agents' tools speak it.
"""

from __future__ import annotations

from tracer.detect.names import Bytes, Ints, byte_at, is_space, lookup, table
from tracer.detect.wire.protocols import PROTOCOL, UNKNOWN, trait
from tracer.detect.wire.spans import (
    OTHER_PROTOCOL,
    SOFTWARE_HI,
    SOFTWARE_LO,
    TRAITS,
    set_software,
    starts,
    word,
)
from tracer.engine.intrinsics import i64
from tracer.jit import kernel

STRATUM = PROTOCOL["stratum"]
JSON_RPC_MINING = PROTOCOL["json-rpc-mining"]

_T_LOGIN, _T_SUBSCRIBE, _T_JOB, _T_SUBMIT = (
    trait(f"mining-{name}") for name in ("login", "subscribe", "job", "submit")
)

# Keys
_METHOD, _PARAMS, _RESULT, _LOGIN, _CREDENTIALS, _AGENT, _JOB_ID, _WORK, _NONCE, _ID, _API_KEY = range(1, 12)
_KEYS = table(
    {
        b"method": _METHOD,
        b"params": _PARAMS,
        b"result": _RESULT,
        b"login": _LOGIN,
        b"pass": _CREDENTIALS,
        b"rigid": _CREDENTIALS,
        b"algo": _CREDENTIALS,
        b"agent": _AGENT,
        b"job_id": _JOB_ID,
        b"jobid": _JOB_ID,
        b"blob": _WORK,
        b"target": _WORK,
        b"seed_hash": _WORK,
        b"pre_pow": _WORK,
        b"input": _WORK,
        b"nonce": _NONCE,
        b"id": _ID,
        b"api_key": _API_KEY,
    }
)

# What was seen: the keys above as bits 1 to 11, and these.
_SUBSCRIBES = 1 << 16
_LOGS_IN = 1 << 17
_HANDS_OUT = 1 << 18
_HANDS_IN = 1 << 19
_MINES = 1 << 20  # some other word that only miners and pools use
_ASKS_NODE = 1 << 21  # work for a miner, from a node
_ASKS_ETH = 1 << 22  # the same, and over bare TCP it is a pool's dialect
# ... words that need company
_METHOD_LOGIN = 1 << 24
_METHOD_JOB = 1 << 25
_METHOD_SUBMIT = 1 << 26
_ID_LOGIN = 1 << 27
_HASHES = 1 << 28  # three hashes in a row, as eth_getWork is answered
_CERTAIN = _SUBSCRIBES | _LOGS_IN | _HANDS_OUT | _HANDS_IN | _MINES

_METHODS = table(
    {
        b"eth_submitLogin": _LOGS_IN,
        b"ckb_submitLogin": _LOGS_IN,
        b"eth_getWork": _ASKS_ETH,
        b"ckb_getWork": _SUBSCRIBES,
        b"eth_submitWork": _ASKS_ETH | _HANDS_IN,
        b"ckb_submitWork": _HANDS_IN,
        b"eth_submitHashrate": _ASKS_ETH,
        b"getjobtemplate": _SUBSCRIBES,
        b"keepalived": _MINES,
        b"set_extranonce": _MINES,
        b"client.get_version": _MINES,
        b"client.reconnect": _MINES,
        b"client.show_message": _MINES,
        b"login": _METHOD_LOGIN,
        b"job": _METHOD_JOB,
        b"submit": _METHOD_SUBMIT,
        b"getwork": _ASKS_NODE,
        b"getblocktemplate": _ASKS_NODE,
        b"get_block_template": _ASKS_NODE,
        b"submitblock": _ASKS_NODE,
        b"submit_block": _ASKS_NODE,
        b"getmininginfo": 0x8000,  # a node's owner asks for that, too
    }
)
_MINING = word(b"mining.")
#: After "mining."; any other word there is a miner's as well.
_MINING_METHODS = table(
    {
        b"subscribe": _SUBSCRIBES,
        b"hello": _SUBSCRIBES,
        b"configure": _SUBSCRIBES,
        b"authorize": _LOGS_IN,
        b"notify": _HANDS_OUT,
        b"set": _HANDS_OUT,
        b"set_difficulty": _HANDS_OUT,
        b"set_target": _HANDS_OUT,
        b"submit": _HANDS_IN,
    }
)
_LOGIN_WORD = word(b"login")

_QUOTE, _BACKSLASH, _COLON, _U, _OBJECT, _ARRAY = (ord(sign) for sign in '"\\:u{[')
_ESCAPED = 64


@kernel
def _hex(byte: int) -> int:
    if 48 <= byte <= 57:
        return byte - 48
    byte |= 32
    return byte - 87 if 97 <= byte <= 102 else 0


@kernel
def _unescape(data: Bytes, lo: int, hi: int, text: Bytes) -> int:
    """Write the string ``data[lo:hi]`` without its escapes to ``text``; its length, 64 at most."""
    length = 0
    while lo < hi and length < _ESCAPED:
        byte = byte_at(data, lo)
        lo += 1
        if byte == _BACKSLASH and lo < hi:
            byte = byte_at(data, lo)
            lo += 1
            if byte == _U and lo + 4 <= hi:
                byte = _hex(byte_at(data, lo + 2)) << 4 | _hex(byte_at(data, lo + 3))
                lo += 4
        text[length] = byte
        length += 1
    return length


@kernel
def _method(data: Bytes, lo: int, hi: int) -> int:
    """What the method ``data[lo:hi]`` is, as bits."""
    if starts(data, lo, hi, _MINING):
        kind = lookup(_MINING_METHODS, data, lo + 7, hi)
        return kind if kind != 0 else _MINES
    return lookup(_METHODS, data, lo, hi)


@kernel
def _is_hash(data: Bytes, lo: int, hi: int) -> bool:
    return hi - lo == 66 and data[lo] == 48 and data[lo + 1] == 120


@kernel
def scan_json(data: Bytes, lo: int, hi: int, text: Bytes, out: Ints) -> int:
    """What the JSON ``data[lo:hi]`` holds that a miner's would, as bits; it may be cut anywhere.

    An agent's name goes to ``out``.
    """
    seen = key = hashes = 0
    first_lo = first_hi = i64(0)  # of the first string in "params"
    at = lo
    while at < hi:
        if data[at] != _QUOTE:
            at += 1
            continue
        start = at + 1
        at = start
        escaped = False
        while at < hi and data[at] != _QUOTE:
            if data[at] == _BACKSLASH:
                escaped = True
                at += 1
            at += 1
        if at >= hi:
            break
        end = at
        at += 1
        while at < hi and is_space(byte_at(data, at)):
            at += 1
        is_key = at < hi and data[at] == _COLON
        if is_key:
            if escaped:
                key = lookup(_KEYS, text, i64(0), _unescape(data, start, end, text))
            else:
                key = lookup(_KEYS, data, start, end)
            hashes = 0
            seen |= 1 << key
            continue
        if key == _METHOD:
            if escaped:
                seen |= _method(text, i64(0), _unescape(data, start, end, text))
            else:
                seen |= _method(data, start, end)
        elif key == _RESULT:
            if starts(data, start, end, _MINING):
                seen |= _method(data, start, end)
            hashes = hashes + 1 if _is_hash(data, start, end) else 0
            if hashes == 3:
                seen |= _HASHES
        elif key == _AGENT:
            set_software(out, start, end)
        elif key == _PARAMS:
            if first_hi == 0:
                first_lo, first_hi = start, end
        elif key == _ID and end - start == 5 and starts(data, start, end, _LOGIN_WORD):
            seen |= _ID_LOGIN
        if key != _PARAMS and key != _RESULT:
            key = 0
    # "mining.subscribe" has the agent as its first parameter
    if seen & _SUBSCRIBES and not seen & 1 << _AGENT and first_hi > first_lo:
        set_software(out, first_lo, first_hi)
    return seen


@kernel
def _in_company(seen: int) -> int:
    """``seen``, with what words that need company say now that all have been read."""
    has_work = seen & 1 << _JOB_ID and seen & 1 << _WORK
    if seen & _METHOD_LOGIN and (
        (seen & 1 << _LOGIN and seen & (1 << _CREDENTIALS | 1 << _AGENT))
        or (seen & 1 << _API_KEY and seen & _ID_LOGIN)
    ):
        seen |= _LOGS_IN
    if seen & _METHOD_SUBMIT and seen & 1 << _NONCE and seen & 1 << _JOB_ID:
        seen |= _HANDS_IN
    if has_work and seen & (_METHOD_JOB | 1 << _RESULT):
        seen |= _HANDS_OUT
    return seen


@kernel
def _traits(seen: int) -> int:
    traits = 0
    if seen & _LOGS_IN:
        traits |= _T_LOGIN
    if seen & (_SUBSCRIBES | _ASKS_NODE | _ASKS_ETH):
        traits |= _T_SUBSCRIBE
    if seen & (_HANDS_OUT | _HASHES):
        traits |= _T_JOB
    if seen & _HANDS_IN:
        traits |= _T_SUBMIT
    return traits


@kernel
def json_lines(data: Bytes, lo: int, hi: int, look: Ints, text: Bytes, out: Ints) -> int:
    """STRATUM, JSON_RPC_MINING or UNKNOWN: what the JSON ``data[lo:hi]`` over bare TCP is."""
    seen = _in_company(scan_json(data, lo, hi, text, out))
    if seen & (_CERTAIN | _ASKS_ETH | _HASHES):
        out[TRAITS] |= _traits(seen)
        return STRATUM
    if seen & _ASKS_NODE:
        out[TRAITS] |= _traits(seen)
        return JSON_RPC_MINING
    if look[OTHER_PROTOCOL] == STRATUM:
        return STRATUM
    set_software(out, i64(0), i64(0))
    return UNKNOWN


@kernel
def json_body(data: Bytes, lo: int, hi: int, text: Bytes, out: Ints) -> int:
    """JSON_RPC_MINING or UNKNOWN: what the JSON ``data[lo:hi]`` in the body of a request is."""
    software_lo, software_hi = out[SOFTWARE_LO], out[SOFTWARE_HI]
    seen = scan_json(data, lo, hi, text, out)
    if seen & _CERTAIN == 0:
        set_software(out, software_lo, software_hi)
    if seen & (_ASKS_NODE | _ASKS_ETH | _CERTAIN):
        out[TRAITS] |= _traits(seen)
        return JSON_RPC_MINING
    return UNKNOWN


@kernel
def is_json(data: Bytes, lo: int, hi: int) -> int:
    """Where a JSON object or array begins after blanks, or -1."""
    stop = min(hi, lo + 64)
    while lo < stop and is_space(byte_at(data, lo)):
        lo += 1
    return lo if lo < stop and (data[lo] == _OBJECT or data[lo] == _ARRAY) else -1

# SPDX-License-Identifier: Apache-2.0
"""Miners' JSON, for the plain twin."""

from __future__ import annotations

import re
from collections.abc import Iterator

from naive_wire_flow import Flow, key, one_of

WORK = "blob target seed_hash pre_pow input"


def json_at(data: bytes) -> bytes | None:
    match = re.match(rb"[ \t\n\v\f\r]{0,63}([{\[].*)", data, re.DOTALL)
    return match[1] if match else None


def strings(data: bytes) -> Iterator[tuple[bytes, bool]]:
    """The strings in JSON that may be cut, and whether each is a key."""
    for match in re.finditer(rb'"((?:[^"\\]|\\.)*)"([ \t\n\v\f\r]*:)?', data, re.DOTALL):
        text = match[1]
        if b"\\" in text:
            text = re.sub(rb"\\(?:u(....)|(.))", unescaped, text, flags=re.DOTALL)[:64]
        yield text, match[2] is not None


def unescaped(match: re.Match[bytes]) -> bytes:
    if match[1] is None:
        return match[2]
    return bytes([hex_value(match[1][2]) << 4 | hex_value(match[1][3])])


def hex_value(byte: int) -> int:
    text = chr(byte)
    # a letter is made small by setting a bit, which makes letters of a few other bytes
    return (
        int(text, 16)
        if text in "0123456789"
        else int(chr(byte | 32), 16)
        if chr(byte | 32) in "abcdef"
        else 0
    )


def raw_strings(data: bytes) -> Iterator[bytes]:
    for match in re.finditer(rb'"((?:[^"\\]|\\.)*)"', data, re.DOTALL):
        yield match[1]


def scan(data: bytes, flow: Flow) -> set[str]:
    """What is said; keys by themselves say nothing."""
    said: set[str] = set()
    keys: set[str] = set()
    key_now = ""
    hashes = 0
    agent = parameter = None
    names = {
        name: name
        for name in f"method params result login pass rigid algo agent job_id jobid {WORK} nonce id api_key".split()
    }
    for (text, is_key), raw in zip(strings(data), raw_strings(data), strict=True):
        if is_key:
            key_now = next((name for name in names if key(text) == key(name.encode())), "")
            keys.add(key_now)
            hashes = 0
            continue
        if key_now == "method":
            said |= method(text)
        elif key_now == "result":
            if raw.startswith(b"mining."):
                said |= method(raw)
            hashes = hashes + 1 if len(raw) == 66 and raw.startswith(b"0x") else 0
            if hashes == 3:
                said.add("hashes")
        elif key_now == "agent":
            agent = raw
        elif key_now == "params" and not parameter:
            parameter = raw
        elif key_now == "id" and raw == b"login":
            said.add("id login")
        if key_now not in ("params", "result"):
            key_now = ""
    if agent is not None:
        flow.software = agent
    if "subscribe" in said and "agent" not in keys and parameter:
        flow.software = parameter
    job = bool(keys & {"job_id", "jobid"})
    work = bool(keys & set(WORK.split()))
    who = bool(keys & {"pass", "rigid", "algo", "agent"})
    if "login?" in said and (("login" in keys and who) or ("api_key" in keys and "id login" in said)):
        said.add("login")
    if "submit?" in said and "nonce" in keys and job:
        said.add("submit")
    if job and work and ("job?" in said or "result" in keys):
        said.add("job")
    return said


def method(text: bytes) -> set[str]:
    if text.startswith(b"mining."):
        rest = text[7:]
        if one_of(rest, "subscribe hello configure"):
            return {"subscribe"}
        if one_of(rest, "authorize"):
            return {"login"}
        if one_of(rest, "notify set set_difficulty set_target"):
            return {"job"}
        return {"submit"} if one_of(rest, "submit") else {"mines"}
    meanings = {
        "eth_submitLogin ckb_submitLogin": {"login"},
        "eth_getWork eth_submitHashrate": {"eth"},
        "ckb_getWork getjobtemplate": {"subscribe"},
        "eth_submitWork": {"eth", "submit"},
        "ckb_submitWork": {"submit"},
        "keepalived set_extranonce client.get_version client.reconnect client.show_message": {"mines"},
        "login": {"login?"},
        "job": {"job?"},
        "submit": {"submit?"},
        "getwork getblocktemplate get_block_template submitblock submit_block": {"node"},
    }
    return next((set(said) for words, said in meanings.items() if one_of(text, words)), set())


CERTAIN = {"subscribe", "login", "job", "submit", "mines"}


def mining_traits(said: set[str], flow: Flow) -> None:
    flow.traits |= {f"mining-{name}" for name in ("login", "submit") if name in said}
    if said & {"subscribe", "node", "eth"}:
        flow.traits.add("mining-subscribe")
    if said & {"job", "hashes"}:
        flow.traits.add("mining-job")


def json_lines(data: bytes, flow: Flow) -> str | None:
    said = scan(data, flow)
    if said & (CERTAIN | {"eth", "hashes"}):
        mining_traits(said, flow)
        return "stratum"
    if "node" in said:
        mining_traits(said, flow)
        return "json-rpc-mining"
    if flow.other == "stratum":
        return "stratum"
    flow.software = b""
    return None


def json_body(data: bytes, flow: Flow) -> bool:
    before = flow.software
    said = scan(data, flow)
    # what needs company is no mining over HTTP
    plain = said - {"login", "job", "submit"} | {
        name for text in method_texts(data) for name in method(text) if name in CERTAIN
    }
    plain |= {name for text in result_texts(data) for name in method(text) if name in CERTAIN}
    if not plain & CERTAIN:
        flow.software = before
    if plain & (CERTAIN | {"node", "eth"}):
        mining_traits(plain, flow)
        return True
    return False


def values(data: bytes, wanted: str) -> Iterator[bytes]:
    key_now = False
    for (text, is_key), raw in zip(strings(data), raw_strings(data), strict=True):
        if is_key:
            key_now = key(text) == key(wanted.encode())
        elif key_now:
            yield text if wanted == "method" else raw
            key_now = wanted == "result"


def method_texts(data: bytes) -> Iterator[bytes]:
    return values(data, "method")


def result_texts(data: bytes) -> Iterator[bytes]:
    return (text for text in values(data, "result") if text.startswith(b"mining."))

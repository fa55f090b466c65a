# SPDX-License-Identifier: Apache-2.0
"""What the msgpack object in a block of each type must look like. Who reads on need not ask again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracer.record import layout
from tracer.rules.model import SEVERITIES

Check = Callable[[Any], bool]


def _is(*types: type) -> Check:
    # a bool is an int for Python, not for us
    return lambda value: isinstance(value, types) and (bool in types or not isinstance(value, bool))


def _within(low: int, high: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value < high


def _every(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _map(key: Check, item: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(key(k) and item(v) for k, v in value.items())


def _keys(**checks: Check) -> Check:
    return lambda value: (
        isinstance(value, dict)
        and all(name in value and check(value[name]) for name, check in checks.items())
    )


def _pair(first: Check, second: Check) -> Check:
    return lambda value: isinstance(value, list) and len(value) == 2 and first(value[0]) and second(value[1])


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


TEXT, BYTES, FLAG, ANY_DICT = _is(str), _is(bytes), _is(bool), _is(dict)
U32, U64, COUNT = _within(0, 1 << 32), _within(0, 1 << 64), _within(0, 1 << 63)

JUDGED_BY = _keys(
    rules=TEXT,
    policy=_or_none(ANY_DICT),
    gpu_users=_or_none(_every(TEXT)),
    own_networks=_every(TEXT),
    epoch=U32,
    mode=TEXT,
)
_PROGRAM = _keys(
    pid=U32, start_ns=U64, exe=BYTES, called=BYTES, cwd=BYTES, argv=_every(BYTES), argv_cut=FLAG,
    uid=U32, gid=U32, cgroup=U64, flags=U32, live=FLAG,
)  # fmt: skip
_OPENED = _keys(pid=U32, start_ns=U64, token=U32, known=FLAG, text=BYTES, cut=FLAG, opener=U32, began_ns=U64)
_SPAN = _keys(path=_every(_OPENED), exes=_every(BYTES), traces=_every(BYTES))
_OUTCOME: dict[str, Check] = {
    "rule": TEXT,
    "pid": _or_none(U32),
    "start_ns": _or_none(U64),
    "action": TEXT,
    "would": _or_none(TEXT),
    "action_error": _or_none(TEXT),
    "times_ns": _keys(hook=U64, engine=U64, effect=_or_none(U64), handout=U64),
}
_ALERT = _keys(
    **_OUTCOME,
    time=TEXT,
    title=TEXT,
    severity=lambda value: value in SEVERITIES,
    attack=_every(TEXT),
    exe=_or_none(TEXT),
    argv=_every(TEXT),
    ancestry=_every(_keys(pid=U32, exe=TEXT)),
    span=_or_none(ANY_DICT),
    evidence=ANY_DICT,
)

SHAPES: dict[int, Check] = {
    layout.UNSEEN: COUNT,
    layout.RULES: JUDGED_BY,
    layout.FILE: _keys(
        path=BYTES,
        facts=_every(TEXT),
        groups=_every(TEXT),
        evidence=ANY_DICT,
        program=_or_none(_PROGRAM),
        ancestry=_every(_pair(U32, BYTES)),
        span=_or_none(_SPAN),
    ),
    layout.ALERT: _ALERT,
    layout.REPEAT: _keys(**_OUTCOME),
    layout.LOSS: _keys(at_ns=U64, kinds=_map(U32, U64), reasons=_map(U32, U64)),
    layout.CLOCK: COUNT,
    layout.CGROUPS: _map(U64, TEXT),
    layout.GAP: _keys(blocks=U64, records=U64, bytes=U64, first_ns=U64, last_ns=U64, why=_every(TEXT)),
    layout.END: _keys(summary=ANY_DICT),
    layout.INDEX: _every(_every(U64)),
}

# SPDX-License-Identifier: Apache-2.0
"""Samples of events that are no command lines, for ``vigiles rules test``: nothing is run or sent."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import numpy as np

from tracer.errors import VigilesError
from tracer.rules.ruleset import Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.rules.ruleset import RuleSet

_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[nrt0\\])")
_PLAIN = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}
_TCP, _UDP = 6, 17


def unescape(text: str) -> bytes:
    r"""Bytes as they are typed: ``\n``, ``\r``, ``\t``, ``\0``, ``\\`` and ``\xNN`` stand for one byte."""

    def byte(found: re.Match[bytes]) -> bytes:
        word = found[1]
        return bytes([int(word[1:], 16)]) if word[:1] == b"x" else _PLAIN[word]

    return _ESCAPE.sub(byte, os.fsencode(text))


def of_flow(data: bytes, *, received: bool, port: int, datagram: bool, given: frozenset[str]) -> Sample:
    """A flow whose first bytes in one direction are ``data``, to ``port`` of the other end (0: any)."""
    from tracer.detect.wire import spans
    from tracer.detect.wire.identify import identify
    from tracer.detect.wire.protocols import PROTOCOLS, TRAITS

    look, out = np.zeros(spans.LOOK, np.int64), np.zeros(spans.OUT, np.int64)
    text = np.zeros(spans.TEXT, np.uint8)
    look[spans.DIRECTION] = spans.RECEIVED if received else spans.SENT
    look[spans.TRANSPORT] = _UDP if datagram else _TCP
    look[spans.REMOTE_PORT] = port
    look[spans.FIRST] = look[spans.WHOLE] = len(data)
    raw = np.frombuffer(bytearray(data[: spans.CAPTURE]) or bytearray(1), np.uint8)
    number = identify(raw, 0, min(len(data), spans.CAPTURE), look, text, out)
    facts = {trait.name for bit, trait in enumerate(TRAITS) if int(out[spans.TRAITS]) >> bit & 1}
    if number:
        facts.add(PROTOCOLS[number - 1].name)
    if datagram:
        facts.add("datagrams")
    host = {spans.IN_DATA: raw, spans.IN_TEXT: text}.get(int(out[spans.HOST_IN]))
    asked = b"" if host is None else host[out[spans.HOST_LO] : out[spans.HOST_HI]].tobytes()
    return Sample(
        facts=given | facts,
        on="flow",
        host=asked,
        received=data[: spans.CAPTURE] if received else b"",
        sent=b"" if received else data[: spans.CAPTURE],
    )


def of_file(rules: RuleSet, path: str, given: frozenset[str]) -> Sample:
    """The executable at ``path``, examined as if it had been executed. Raises VigilesError."""
    from tracer.triage.bounded import NotRegularError
    from tracer.triage.examine import Examination

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise VigilesError(f"{path} can't be read: {error.strerror}") from None
    try:
        report = Examination(rules.groups).examine(fd, os.fsencode(path))
    except NotRegularError:
        raise VigilesError(f"{path} is no regular file") from None
    finally:
        os.close(fd)
    return Sample(facts=given | report.facts, on="file", groups=report.groups)


def of_names(words: Sequence[str], on: str, given: frozenset[str]) -> Sample:
    """A connect to a place that was looked up by the name ``words[0]``, if there is one."""
    return Sample(facts=given, on=on, host=os.fsencode(words[0]) if words else b"")

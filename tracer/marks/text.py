# SPDX-License-Identifier: Apache-2.0
"""What is said of a span, as probes/span_call.h and events.h have it: ``key=value``, each ended by NUL."""

from __future__ import annotations

from collections.abc import Mapping

#: Bytes that a probe takes (SPAN_TEXT).
TEXT_MAX = 512
#: Of one key or value no more than this, so that a long one leaves room for the others.
_VALUE_MAX = 200


def _cut(text: str, limit: int) -> bytes:
    """At most ``limit`` bytes of UTF-8, no character cut in two."""
    raw = text.encode("utf-8", "backslashreplace").replace(b"\0", b"")
    if len(raw) <= limit:
        return raw
    return raw[:limit].decode("utf-8", "ignore").encode()


def encode(said: Mapping[str, object]) -> tuple[bytes, bool]:
    """The bytes, and whether something had to be left out. What is None is not said."""
    pairs = [f"{key}={value}\0" for key, value in said.items() if value is not None]
    whole = "".join(pairs).encode("utf-8", "backslashreplace")
    if len(whole) <= _VALUE_MAX and whole.count(b"\0") == len(pairs) == whole.count(b"="):
        return whole, False
    return _encode_slowly(said)


def _encode_slowly(said: Mapping[str, object]) -> tuple[bytes, bool]:
    text, cut = b"", False
    for key, value in said.items():
        if value is None:
            continue
        whole = str(value)
        name, short = _cut(key, _VALUE_MAX), _cut(whole, _VALUE_MAX)
        cut = cut or len(short) < len(whole) or len(name) < len(key)
        pair = name.replace(b"=", b"_") + b"=" + short + b"\0"
        if len(text) + len(pair) > TEXT_MAX:
            cut = True
            continue
        text += pair
    return text, cut

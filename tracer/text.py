# SPDX-License-Identifier: Apache-2.0
"""Bytes that the traced tree chose, made fit for people, terminals and JSON.

Paths and arguments may hold anything: escape sequences that rewrite the terminal, right-to-left
marks, bytes that are no UTF-8. Nothing of the kind may reach a terminal or a log as it is.
"""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Sequence

#: Control characters, formatting marks (bidi overrides among them), surrogates, unassigned.
_HARMFUL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def decode(raw: bytes) -> str:
    r"""UTF-8; bytes that are none become ``\xNN``."""
    return raw.decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """``text`` with everything that acts on a terminal written out as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c
        if unicodedata.category(c) not in _HARMFUL
        else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )


def shown(raw: bytes) -> str:
    """Bytes of the tree, for the eyes of a person."""
    return printable(decode(raw))


def shorten(text: str, width: int) -> str:
    """At most ``width`` characters, the middle left out."""
    if len(text) <= width:
        return text
    keep = width - 1
    return text[: keep - keep // 3] + "…" + text[len(text) - keep // 3 :]


def command_line(argv: Sequence[bytes]) -> str:
    """Arguments as one could type them, for the eyes of a person."""
    return " ".join(shlex.quote(shown(argument)) for argument in argv)

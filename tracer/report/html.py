# SPDX-License-Identifier: Apache-2.0
"""A story as one HTML file that needs nothing else and lets nothing else in.

The story is JSON in a script element that is no script. Nothing in it can end that element, since ``<``, ``>``
and ``&`` are written as escapes; the page's own script puts it into text nodes alone; and the page's policy
lets that script run, by its hash, and no other.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).with_name("page")
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def to_html(story: dict[str, Any]) -> str:
    """The page, see :func:`tracer.report.story.tell`."""
    style, script = _part("page.css"), _part("page.js")
    fields = {
        "STYLE_HASH": _hash(style),
        "SCRIPT_HASH": _hash(script),
        "TITLE": html.escape(f"vigiles: {story['recording']['host']}, {story['recording']['began'][:10]}"),
        "STYLE": style,
        "SCRIPT": script,
        "STORY": _data(story),
    }
    page = _part("page.html")
    pieces = page.split("@")
    # every other piece is the name of a field: nothing that has been put in is looked at again
    return "".join(fields[piece] if n % 2 else piece for n, piece in enumerate(pieces))


def _part(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data(story: dict[str, Any]) -> str:
    text = json.dumps(story, separators=(",", ":"), ensure_ascii=False)
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text

# SPDX-License-Identifier: Apache-2.0
"""Tool calls that stand inside of what a model said, as rollout dumps have it: text, or messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

#: Who writes messages in which nothing was called.
_OTHERS = ("system", "user", "tool", "environment")
#: Where in a message, or a step, something was said.
_SAID = ("messages", "content", "text", "response", "llm_response", "action", "tool_calls")
_DEPTH_MAX = 8

Call = dict[str, Any] | str
Marks = list[tuple[str, str]]


def calls_in(said: Any, between: Marks, depth: int = _DEPTH_MAX) -> Iterator[Call]:
    """Each call: as an object, or the text of a command. ``between``: what stands before and behind one in text."""
    if isinstance(said, str):
        opened = _opened(said)
        if opened is None:
            yield from _in_text(said, between)
        elif depth:
            yield from calls_in(opened, between, depth - 1)
    elif isinstance(said, list) and depth:
        for item in said:
            yield from calls_in(item, between, depth - 1)
    elif isinstance(said, dict) and depth and said.get("role") not in _OTHERS:
        if isinstance(call := said.get("function"), dict):  # one of tool_calls
            yield call
            return
        for key in _SAID:
            if key in said:
                yield from calls_in(said[key], between, depth - 1)


def _opened(text: str) -> Any:
    """What is in text that is JSON itself; None if it is none."""
    if text[:1] not in {"[", "{"}:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _in_text(text: str, between: Marks) -> Iterator[Call]:
    """By the places where they begin, so that many beginnings without an end cost no more than one."""
    for before, behind in between:
        for piece in text.split(before)[1:]:
            inside, mark, _ = piece.partition(behind)
            inside = inside.strip()
            if not mark or not inside:
                continue
            call = _opened(inside)
            if isinstance(call, dict):
                yield call
            elif call is None and not inside.startswith("<"):  # of XML, what is inside of that is wanted
                yield inside

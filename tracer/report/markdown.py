# SPDX-License-Identifier: Apache-2.0
"""A story as Markdown, for tickets and reviews."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

#: What Markdown, or HTML in it, would make something of.
_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~&])")
_FLOWS_MAX = 20


def to_markdown(story: dict[str, Any]) -> str:
    """The whole of it but timeline and single processes."""
    return "\n".join(_lines(story)) + "\n"


def _plain(text: Any) -> str:
    """Text that stays text."""
    return _SPECIAL.sub(r"\\\1", str(text)).replace("\n", " ")


def _code(text: Any) -> str:
    """A code span, longer fenced than any run of backticks in it."""
    said = str(text).replace("\n", " ")
    fence = "`" * (max((len(run) for run in re.findall("`+", said)), default=0) + 1)
    pad = " " if said.startswith("`") or said.endswith("`") else ""
    return f"{fence}{pad}{said}{pad}{fence}"


def _lines(story: dict[str, Any]) -> Iterator[str]:
    r, sums = story["recording"], story["sums"]
    yield f"# What happened on {_plain(r['host'])}"
    yield ""
    yield f"{r['began']} to {r['ended']}, {_plain(r['kernel'])}, mode {_plain(r['mode'])}"
    if r["command"]:
        yield f"Watched: {_code(' '.join(map(str, r['command'])))}"
    yield f"{sums['processes']:,} processes, {sums['flows']:,} flows, {sums['events']:,} events."
    yield ""
    yield "## Incidents"
    yield ""
    if not story["incidents"]:
        yield "None."
    for incident in story["incidents"]:
        yield from _incident(incident)
    yield ""
    yield "## Flows"
    yield ""
    yield "| program | | other end | sent | received | flows |"
    yield "|---|---|---|---:|---:|---:|"
    for row in story["flows"]["rows"][:_FLOWS_MAX]:
        end = f"{row['name']} {row['remote']}".strip()
        yield (
            f"| {_plain(row['exe'] or '?')} | {row['direction']} | {_plain(end)} {row['port']}/{row['transport']} "
            f"| {row['sent']:,} | {row['received']:,} | {row['count']:,} |"
        )
    more = len(story["flows"]["rows"]) - _FLOWS_MAX + story["flows"]["left_out"]
    if more > 0:
        yield f"\n{more:,} more."
    yield ""
    yield from _coverage(story["coverage"])


def _incident(incident: dict[str, Any]) -> Iterator[str]:
    yield f"### {incident['number']}. {_plain(incident['line'])} ({incident['severity']})"
    yield ""
    yield f"{incident['began']} to {incident['ended']}, {incident['alerts']:,} alerts."
    attack = ", ".join(f"{a['id']} {a['name']}".strip() for a in incident["attack"])
    yield f"ATT&CK: {_plain(attack) or 'none'}. OWASP: {_plain(', '.join(incident['owasp'])) or 'none'}. "
    yield f"NIST AI RMF: {_plain(', '.join(incident['nist'])) or 'none'}."
    yield ""
    for part in incident["parts"]:
        times = f" ×{part['count']:,}" if part["count"] > 1 else ""
        done = ", ".join(f"{what} ×{n}" if n > 1 else str(what) for what, n in part["actions"].items())
        yield f"- **{part['severity']}** {_plain(part['title'])}{times} ({_plain(part['rule'])}), {part['time']}"
        yield f"  - {_code(' '.join(map(str, part['argv'])) or part['exe'] or 'an unknown process')}"
        line = " ← ".join(f"{a['exe'] or '?'} ({a['pid']})" for a in part["ancestry"])
        yield f"  - pid {part['pid']}: {_plain(line)}"
        if part["span"]:
            yield f"  - tool call: {_code(json.dumps(part['span'], ensure_ascii=False))}"
        yield f"  - evidence: {_code(json.dumps(part['evidence'], ensure_ascii=False))}"
        yield f"  - what was done: {_plain(done)}"
    yield ""


def _coverage(c: dict[str, Any]) -> Iterator[str]:
    yield "## Coverage"
    yield ""
    if not c["remarks"]:
        yield "Every event that the kernel saw was delivered and recorded, and every hook was there."
    for line in c["remarks"]:
        yield f"- {_plain(line)}"
    yield ""
    yield "| event | seen | delivered | lost | recorded |"
    yield "|---|---:|---:|---:|---:|"
    for row in c["rows"]:
        numbers = " | ".join(
            "?" if row[k] is None else f"{row[k]:,}" for k in ("seen", "delivered", "lost", "recorded")
        )
        yield f"| {_plain(row['kind'])} | {numbers} |"

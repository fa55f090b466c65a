# SPDX-License-Identifier: Apache-2.0
"""What an environment's libraries look like to people."""

from __future__ import annotations

from tracer.kernel.schema import EXEC_FLAG
from tracer.text import decode


def libraries_of(text: bytes, flags: int) -> dict[str, str]:
    """``text``: the lists of LD_AUDIT, if ``flags`` (enum exec_flag) say so, and LD_PRELOAD, each ended by NUL."""
    names = ("audit", "preload") if flags & EXEC_FLAG["EXEC_AUDIT"] else ("preload",)
    return {name: decode(found) for name, found in zip(names, text.split(b"\0"), strict=False) if found}

# SPDX-License-Identifier: Apache-2.0
"""The recordings that a command is given."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.text import printable

if TYPE_CHECKING:
    from tracer.record.reader import Recording, UnbegunError


def opened(paths: Iterable[Path]) -> list[list[Recording]]:
    """By recording, its parts in order; a file that holds nothing is left out, and said. Raises VigilesError."""
    from tracer.record.reader import in_order

    return in_order(list(paths), leave_out=_say)


def _say(left_out: UnbegunError) -> None:
    print(f"vigiles: {printable(str(left_out.path))} {left_out.said}", file=sys.stderr)

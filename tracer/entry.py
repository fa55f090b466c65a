# SPDX-License-Identifier: Apache-2.0
"""Where the ``vigiles`` command begins: what agents run for every tool call goes past the command line's
library.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the ``vigiles`` command."""
    if sys.argv[1:2] == ["span"]:
        from tracer.marks.command import main as span

        sys.exit(span(sys.argv[2:]))
    if sys.argv[1:2] != ["warm"]:
        from tracer.jit import prefer_linked

        prefer_linked()
    from tracer.cli import main as command_line

    command_line()

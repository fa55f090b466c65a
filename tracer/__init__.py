# SPDX-License-Identifier: Apache-2.0
"""vigiles: an eBPF tracer for agent process trees on GPU hosts.

Imported by the programs that it watches, for ``span``: so it imports nothing until that is used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, which would have to be imported
if TYPE_CHECKING:
    from typing import Any

    from tracer.marks.api import span

__all__ = ["__version__", "span"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name != "span":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tracer.marks.api import span as found

    globals()["span"] = found
    return found

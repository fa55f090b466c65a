# SPDX-License-Identifier: Apache-2.0
"""vigiles: an eBPF tracer for agent process trees on GPU hosts.

Imported by the programs that it watches, for :class:`span`: so this costs nothing until that is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracer.marks import span

__all__ = ["span"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name != "span":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tracer.marks import span

    globals()["span"] = span
    return span

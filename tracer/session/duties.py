# SPDX-License-Identifier: Apache-2.0
"""What a session's watch sees to beside its rings, see :mod:`tracer.duties`: what that needs is opened here.

That takes privileges that a watch does not keep. A duty that can't be had is said, and does not keep a watch from beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tracer.cli.options import WatchOptions
from tracer.errors import HostError
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.duties import Duty
    from tracer.engine.engine import Engine
    from tracer.footholds.watcher import Footholds
    from tracer.gpu.nvml import Nvml
    from tracer.session.outlets import Outlets


def require(options: WatchOptions) -> None:
    """What was asked for by name must be there. Raises HostError."""
    if options.nvml:
        from tracer.gpu.nvml import require_package

        require_package()


def watch_footholds(stack: ExitStack, outlets: Outlets) -> Footholds | None:
    """Have fanotify(7) tell of files that are obeyed later; None, and said, where it doesn't.

    Before the engine is there: what is written while that is compiled waits.
    """
    from tracer.footholds.places import everywhere
    from tracer.footholds.watcher import Footholds

    try:
        footholds = Footholds(everywhere())
    except HostError as error:
        outlets.complain("what is written where it will be obeyed is not seen", error)
        return None
    stack.callback(footholds.close)
    for path, why in footholds.refused:
        outlets.say(f"footholds are not watched in {printable(path)}: {why}")
    return footholds


def ask_nvml(stack: ExitStack, options: WatchOptions, say: Callable[[str], None]) -> Nvml | None:
    """Have NVML asked who uses the cards: where that is wanted, or where nobody has said and it can be."""
    from tracer.gpu.devices import has_nvidia

    wanted = options.nvml
    if wanted is False or (wanted is None and not has_nvidia()):
        return None
    from tracer.gpu import nvml

    if wanted is None and nvml.package() is None:
        return None
    try:
        asking = nvml.Nvml(say)
    except (HostError, OSError) as error:
        say(f"NVML is not asked who uses the GPU: {error}")
        return None
    stack.callback(asking.close)
    return asking


def of(engine: Engine, footholds: Footholds | None, nvml: Nvml | None) -> list[Duty]:
    """The duties that can be had."""
    found: list[Duty] = []
    if footholds is not None:
        from tracer.footholds.records import FootholdRecords

        found.append(FootholdRecords(footholds, engine))
    if nvml is not None:
        from tracer.gpu.uses import GpuUses

        found.append(GpuUses(nvml, engine))
    return found

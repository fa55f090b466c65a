# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share: each is defined here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from tracer.kernel.loader import NAMES as LOADERS

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What was asked for on the command line."""

    policy: Path | None
    rules: tuple[Path, ...]
    alerts: str | None
    gpu_device: tuple[str, ...]
    gpu_user: tuple[str, ...]
    detach_on_exit: bool
    enforce: bool
    quiet: bool
    as_json: bool
    verbose: bool
    critical_mib: int
    bulk_mib: int
    record: Path | None
    record_mib: int
    record_hours: float
    record_keep_mib: int
    record_sync: float
    record_zstd: bool
    sign_key: Path | None
    nvml: bool | None
    loader: str
    btf: Path | None

    @property
    def record_rotates(self) -> bool:
        """Will files be made while the watch runs?"""
        return bool(self.record_mib or self.record_hours)


def _power_of_two(_context: click.Context, _parameter: click.Parameter, value: int) -> int:
    if value < 1 or value & (value - 1) or value > 1024:
        raise click.BadParameter("must be a power of two between 1 and 1024 (MiB)")
    return value


def rules_option(*name: str) -> Callable[[F], F]:
    """``--rules FILE``; the command gets the files as ``name``, if that is not ``rules``."""
    return click.option(
        "--rules",
        *name,
        multiple=True,
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Rule file that adds to or overrides the built-in packs (repeatable).",
    )


def loader_option(*name: str) -> Callable[[F], F]:
    """``--loader NAME``; the command gets it as ``name``, if that is not ``loader``."""
    return click.option(
        "--loader",
        *name,
        type=click.Choice(LOADERS),
        default="auto",
        show_default=True,
        help="How probes get into the kernel: bcc where it does not describe its types (BTF); auto: as it must be.",
    )


btf_option = click.option(
    "--btf",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The types of this very kernel (BTF), for one that does not describe them; no headers are needed then.",
)


_POLICY = (
    click.option(
        "--policy",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="What is normal for this job, and what to do otherwise (see: vigiles policy explain).",
    ),
    click.option(
        "--enforce", is_flag=True,
        help="Do what rules call for: end the process, cut the flow, … Without it alerts say what would be done.",
    ),
)  # fmt: skip
_RECORD = (
    click.option(
        "--record", metavar="FILE", type=click.Path(path_type=Path),
        help="Record all that is seen into a new file (see: vigiles replay, events, report, verify).",
    ),
    click.option(
        "--record-mib", default=0, type=click.IntRange(0), metavar="MIB",
        help="Begin another file (FILE.2, …) after so much.",
    ),
    click.option(
        "--record-hours", default=0.0, type=click.FloatRange(0), metavar="HOURS",
        help="Begin another file after so long.",
    ),
    click.option(
        "--record-keep-mib", default=0, type=click.IntRange(0), metavar="MIB",
        help="Remove the oldest finished files when all together are more.",
    ),
    click.option(
        "--record-sync", default=1.0, show_default=True, type=click.FloatRange(0), metavar="SECONDS",
        help="Have it on the disk at least so often; 0 leaves that to the kernel.",
    ),
    click.option("--record-zstd", is_flag=True, help="Compress it (needs vigiles[zstd])."),
    click.option(
        "--sign-key", metavar="FILE", type=click.Path(path_type=Path),
        help="Chain the recording with this key, so that nobody else can chain it anew.",
    ),
)  # fmt: skip
_GPU_DEVICE = click.option(
    "--gpu-device",
    multiple=True,
    metavar="PATH[=FAMILY]",
    help="Treat this character device as a GPU (repeatable). FAMILY: nvidia (default), uvm, kfd, "
    "amdgpu, i915, xe, drm, accel.",
)
_OPTIONS = (
    rules_option(),
    click.option("--alerts", metavar="FILE", help="Append alerts as JSON Lines; - is standard output."),
    _GPU_DEVICE,
    click.option(
        "--gpu-user",
        multiple=True,
        metavar="PATTERN",
        help="Who may use the GPU: a glob for the executable's or script's path or name, file:PATH for that very file, "
        "either with ' below PROGRAM' behind it: only as its descendant (repeatable); none: nobody. Without it the first client is presumed to be the trainer.",
    ),
    click.option(
        "--nvml/--no-nvml",
        default=None,
        help="Ask NVML how much of the GPU each process uses (needs vigiles[nvml]). By default where there is NVIDIA's driver.",
    ),
    loader_option(),
    btf_option,
    click.option("--detach-on-exit", is_flag=True, help="Stop watching when the command itself has ended."),
    click.option("-q", "--quiet", is_flag=True, help="No alerts and no summary on standard error."),
    click.option("--json", "as_json", is_flag=True, help="Alerts and summary on standard error as JSON Lines."),
    click.option("-v", "--verbose", is_flag=True, help="Print every event, too."),
    click.option(
        "--critical-mib", default=8, show_default=True, callback=_power_of_two,
        help="Ring for execs, forks and exits, in MiB.",
    ),
    click.option(
        "--bulk-mib", default=16, show_default=True, callback=_power_of_two,
        help="Ring for everything else, in MiB.",
    ),
)  # fmt: skip


def _taking(options: tuple[Callable[[Any], Any], ...], fixed: dict[str, Any]) -> Callable[..., Any]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def with_options(**values: Any) -> Any:
            names = WatchOptions.__dataclass_fields__
            given = {name: fixed[name] if name in fixed else values.pop(name) for name in names}
            return function(options=WatchOptions(**given), **values)

        for option in reversed(options):
            with_options = option(with_options)
        return with_options

    return decorate


#: Adds the shared options; the command gets them as one ``options`` argument.
watch_options = _taking((*_POLICY, *_OPTIONS, *_RECORD), {})
#: The same for a watch that is under no policy and does nothing about what it sees.
learn_options = _taking((*_OPTIONS, *_RECORD), {"policy": None, "enforce": False})
#: For who looks on: nothing is written, said or done.
looking_options = _taking(
    (rules_option(), _GPU_DEVICE, loader_option(), btf_option),
    {
        "policy": None, "alerts": None, "gpu_user": (), "detach_on_exit": False, "enforce": False, "quiet": True,
        "as_json": False, "verbose": False, "critical_mib": 8, "bulk_mib": 16, "record": None, "record_mib": 0,
        "record_hours": 0.0, "record_keep_mib": 0, "record_sync": 0.0, "record_zstd": False, "sign_key": None,
        "nvml": None,
    },
)  # fmt: skip


def gpu_users(options: WatchOptions) -> tuple[str, ...] | None:
    """None: presume; empty: nobody; else the patterns."""
    if not options.gpu_user:
        return None
    if "none" in options.gpu_user:
        if len(options.gpu_user) > 1:
            raise click.UsageError("--gpu-user none can't be combined with a pattern")
        return ()
    return options.gpu_user

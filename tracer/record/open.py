# SPDX-License-Identifier: Apache-2.0
"""From options to a recorder: the file is there before anything is watched, or it is said why not."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.errors import VigilesError
from tracer.record.files import PartFiles
from tracer.record.writer import WriteOptions

if TYPE_CHECKING:
    from tracer.cli.options import WatchOptions
    from tracer.engine.engine import Engine
    from tracer.kernel.probes import Probes
    from tracer.policy import Policy
    from tracer.record.recorder import Recorder
    from tracer.rules import RuleSet

_KEY_MIN, _KEY_MAX = 16, 4096
_MIB = 1 << 20


def read_key(path: Path) -> bytes:
    """What a chain is made with, of all bytes of a file. Raises VigilesError."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            said = file.read(_KEY_MAX + 1)
    except OSError as error:
        raise VigilesError(f"can't read {path}: {error.strerror}") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise VigilesError(f"{path} can be read by others, who could sign as we do", hint=f"chmod 600 {path}")
    if not _KEY_MIN <= len(said) <= _KEY_MAX:
        raise VigilesError(
            f"{path} is no key: it has to hold {_KEY_MIN} to {_KEY_MAX} bytes",
            hint=f"head -c 32 /dev/urandom > {path}",
        )
    return hashlib.blake2b(said, digest_size=32, person=b"vigiles-signkey").digest()


def open_files(path: Path, options: WatchOptions, group: int | None) -> PartFiles:
    """The first file, which must be new. Raises VigilesError."""
    return PartFiles(path, group=group, keep_bytes=options.record_keep_mib * _MIB)


def write_options(options: WatchOptions) -> WriteOptions:
    """How it is to be written. Raises VigilesError."""
    return WriteOptions(
        rotate_bytes=options.record_mib * _MIB,
        rotate_s=options.record_hours * 3600.0,
        sync_s=options.record_sync,
        key=read_key(options.sign_key) if options.sign_key else b"",
        zstd=options.record_zstd,
    )


def begin(
    files: PartFiles,
    how: WriteOptions,
    engine: Engine,
    tree: str,
    probes: Probes,
    *,
    policy: Callable[[], Policy | None] = lambda: None,
    enforces: Callable[[], bool] = lambda: False,
    command: list[str] | None = None,
) -> Recorder:
    """Write the header: what ``engine`` takes in from ``probes`` goes behind it. Raises VigilesError.

    ``policy`` and ``enforces`` are asked again when rules are read again.
    """
    from tracer.gpu.devices import driver_version, names_of_cards
    from tracer.record.header import make_header, terms_of
    from tracer.record.recorder import Recorder
    from tracer.record.writer import Writer

    def describe(rules: RuleSet, epoch: int) -> dict[str, Any]:
        return terms_of(rules, policy(), epoch, enforce=enforces())

    header = make_header(
        engine,
        tree,
        describe(engine.rules, probes.knowledge.epoch if probes.knowledge else 0),
        command=command,
        missing_hooks=probes.unseen | probes.missing,
        signed=bool(how.key),
        gpu_driver=driver_version(),
        gpu_names=names_of_cards(),
    )
    return Recorder(Writer(files, header, how), describe)

# SPDX-License-Identifier: Apache-2.0
"""``vigiles verify FILE…``"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracer.text import printable

if TYPE_CHECKING:
    from tracer.record.verify import Verdict


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.option(
    "--sign-key", metavar="FILE", type=click.Path(path_type=Path), help="The key it was recorded with."
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def verify(*, paths: tuple[Path, ...], sign_key: Path | None, as_json: bool) -> int:
    """Say whether recordings are whole and as they were written.

    Give the files of one recording in their order: FILE FILE.2 …  Exit status 0: nothing was changed,
    damaged or taken out; 1: something was, were it a last block, or a file's first, that its writer was killed
    over. Blocks that a full disk has cost are gaps, which the recording
    itself tells of; that it has no end tells that its watch was killed, or that the end was cut off.
    """
    from tracer.record.open import read_key
    from tracer.record.verify import verify as look_at

    verdicts = look_at(paths, read_key(sign_key) if sign_key else b"")
    if as_json:
        click.echo(json.dumps([_to_json(verdict) for verdict in verdicts], indent=2))
    else:
        for verdict in verdicts:
            _print(verdict)
    return 0 if all(verdict.intact for verdict in verdicts) else 1


def _to_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "path": str(verdict.path),
        "intact": verdict.intact,
        "blocks": verdict.blocks,
        "signed": verdict.signed,
        "key_known": verdict.key_known,
        "ended": verdict.ended,
        "changed": verdict.changed,
        "damaged": verdict.damaged,
        "missing": verdict.missing,
        "gaps": verdict.gaps,
    }


def _print(verdict: Verdict) -> None:
    name = printable(str(verdict.path))
    word = "intact" if verdict.intact else "NOT INTACT"
    chain = f", {_chain(verdict)}" if verdict.blocks else ""
    click.echo(f"{name}: {word}, {verdict.blocks:,} blocks{chain}")
    for line in verdict.changed:
        click.echo(f"  changed: {line}")
    for line in verdict.damaged:
        click.echo(f"  damaged: {line}")
    for line in verdict.missing:
        click.echo(f"  missing: block {line}")
    for gap in verdict.gaps:
        click.echo(
            f"  gap: {gap.get('records', 0):,} records in {gap.get('blocks', 0):,} blocks were not written: "
            f"{printable(', '.join(map(str, gap.get('why', []))))}"
        )
    if not verdict.ended:
        click.echo("  it has no end: the watch goes on or was killed, or this is not its last file")


def _chain(verdict: Verdict) -> str:
    if verdict.signed and not verdict.key_known:
        return "signed, but without --sign-key its chain can't be followed"
    return (
        "signed with this key" if verdict.signed else "chained (unsigned: whoever can write can chain anew)"
    )

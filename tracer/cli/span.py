# SPDX-License-Identifier: Apache-2.0
"""``vigiles span``, as the list of commands has it; :mod:`tracer.entry` goes past it to be quick."""

from __future__ import annotations

import click

from tracer.marks.command import main


@click.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def span(*, arguments: tuple[str, ...]) -> int:
    """Mark what a shell does, so that alerts can name the tool call."""
    return main(list(arguments))

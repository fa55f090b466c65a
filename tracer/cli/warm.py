# SPDX-License-Identifier: Apache-2.0
"""``vigiles warm``"""

from __future__ import annotations

import time

import click

from tracer.errors import HostError


@click.command()
def warm() -> None:
    """Compile the engine and keep the result, so that the first watch starts at once."""
    from tracer import jit

    began = time.monotonic()
    from tracer.engine.engine import Engine
    from tracer.rehearsal import rehearse
    from tracer.rules import load_rules
    from tracer.triage.examiner import Examiner

    rules = load_rules([])
    Engine(rules).warm()
    Examiner(rules.groups).close()
    rehearse(rules, "warm")
    jit.mark_warm()
    path = jit.linked_path()
    if path is None or not path.exists():
        try:
            from tracer.linker import link

            link()
        except HostError as error:
            click.echo(f"engine not linked: {error}. Every start will load the compiler, too", err=True)
    place = jit.cache_directory()
    kept = f"kept in {place}" if place else "not kept: no directory here is safe from others"
    click.echo(f"engine compiled in {time.monotonic() - began:.1f} s, {kept}", err=True)

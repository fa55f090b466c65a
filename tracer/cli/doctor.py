# SPDX-License-Identifier: Apache-2.0
"""``vigiles doctor``"""

from __future__ import annotations

import json
from pathlib import Path

import click

from tracer.cli.options import btf_option, loader_option


@click.command()
@loader_option("loader_name")
@btf_option
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def doctor(*, loader_name: str, btf: Path | None, as_json: bool) -> int:
    """Say what this host lets us see, by which hooks, and what it will cost.

    Exit status 0: a watch can begin here. 1: it can't, and the report says why.
    """
    from tracer.kernel.doctor import examine

    report = examine(loader_name, btf)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        for line in report.lines():
            click.echo(line)
    return 0 if report.able else 1

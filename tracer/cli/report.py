# SPDX-License-Identifier: Apache-2.0
"""``vigiles report FILE…``"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from tracer.cli.recordings import opened
from tracer.errors import VigilesError

FORMATS = ("html", "markdown", "json", "sarif", "ocsf")


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", metavar="FILE", help="Where to; - is standard output, the default but for html."
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="html", show_default=True)
@click.option("--force", is_flag=True, help="Replace the output if it is there.")
def report(*, paths: tuple[Path, ...], output: str | None, form: str, force: bool) -> int:
    """Tell what happened in a recording: incidents, timeline, processes, flows, and what was not seen.

    Give all files of one recording. html is one file that needs no network; markdown is for tickets; json is
    all of it; sarif and ocsf are for programs that collect findings.
    """
    from tracer.report.story import tell
    from tracer.rules import load_rules

    if form == "html" and output is None:
        raise click.UsageError("a page needs a place: -o report.html")
    recordings = opened(paths)
    if len(recordings) > 1:
        names = ", ".join(str(parts[0].path) for parts in recordings)
        raise VigilesError(f"these are several recordings: {names}", hint="report one at a time")
    text = _rendered(tell(recordings[0], load_rules()), form)
    if output is None or output == "-":
        sys.stdout.write(text)
    else:
        _write(Path(output), text, force=force)
    return 0


def _rendered(story: dict[str, Any], form: str) -> str:
    if form == "html":
        from tracer.report.html import to_html

        return to_html(story)
    if form == "markdown":
        from tracer.report.markdown import to_markdown

        return to_markdown(story)
    if form == "sarif":
        from tracer.report.sarif import to_sarif

        return json.dumps(to_sarif(story), indent=1) + "\n"
    if form == "ocsf":
        from tracer.report.ocsf import to_ocsf

        return "".join(json.dumps(finding, separators=(",", ":")) + "\n" for finding in to_ocsf(story))
    return json.dumps(story, indent=1) + "\n"


def _write(path: Path, text: str, *, force: bool) -> None:
    """A link in the last place is not followed."""
    how = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_TRUNC if force else os.O_EXCL)
    try:
        with open(os.open(path, how, 0o644), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise VigilesError(f"{path} is there already", hint="--force replaces it") from None
    except OSError as error:
        raise VigilesError(f"can't write {path}: {error.strerror}") from None

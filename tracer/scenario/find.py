# SPDX-License-Identifier: Apache-2.0
"""Which scenario files are meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from tracer.errors import VigilesError
from tracer.rules.model import nearest
from tracer.scenario.spec import KINDS

CORPUS = Path("tests", "scenarios")


def corpus_folder(start: Path | None = None) -> Path:
    """The corpus of the checkout that ``start`` (the current directory) is in."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if any((folder / CORPUS / kind).is_dir() for kind in KINDS):
            return folder / CORPUS
    raise VigilesError(f"there is no {CORPUS} here or above", hint="name a folder: --dir DIR")


def files(folder: Path) -> list[Path]:
    """Every scenario of a corpus, the malicious first; of another folder, those that lie in it."""
    places = [folder / kind for kind in KINDS if (folder / kind).is_dir()] or [folder]
    return [path for place in places for path in sorted(place.glob("*.toml"))]


def resolve(words: Iterable[str], folder: Path | None) -> Iterator[Path]:
    """The files that these words mean: paths, ``kind/name`` or ``name``; a kind means all of it."""
    for word in words:
        path = Path(word)
        if path.suffix == ".toml" and path.is_file():
            yield path
            continue
        corpus = folder or corpus_folder()
        known = {f"{p.parent.name}/{p.stem}": p for p in files(corpus)}
        found = [p for name, p in known.items() if word in {name, p.stem, p.parent.name}]
        if not found:
            raise VigilesError(f"there is no scenario '{word}' in {corpus}", hint=nearest(word, known))
        yield from found

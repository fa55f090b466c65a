# SPDX-License-Identifier: Apache-2.0
"""From what a run did to a policy that allows it: small enough to be read, and meant to be.

What changes from run to run is generalised (versions, hashes, ports that the kernel picks), and what is
generalised says so in a comment beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tracer.policy.learned_places import listed_destinations, listed_ports
from tracer.policy.learned_programs import listed_files, listed_programs
from tracer.policy.written import Entry, Learned

_HEAD = """\
# Written by `vigiles policy learn` from what one run did. Read it before you rely on it: what the run
# should not have done is allowed in here, too. `vigiles policy explain` says what it comes to.
"""


class Destination(NamedTuple):
    """The other end of a connection; ``protocol`` is IP's number (6 TCP, 17 UDP), ``name`` what DNS called it."""

    address: str
    port: int
    protocol: int = 6
    name: str | None = None


class Listening(NamedTuple):
    """A socket that others could come in by; ``protocol`` is IP's number."""

    address: str
    port: int
    protocol: int = 6


class GpuUser(NamedTuple):
    """Who made a compute context; ``script`` is that of an interpreter, or empty."""

    exe: str
    script: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a run did. ``executables``: by resolved path, how often they were started."""

    executables: Mapping[str, int] = field(default_factory=dict)
    destinations: Iterable[Destination] = ()
    listening: Iterable[Listening] = ()
    gpu_users: Iterable[GpuUser] = ()


def write(observed: Observed, name: str, remarks: Iterable[str] = (), *, by_file: bool = False) -> str:
    """A policy called ``name`` that allows what was observed, as TOML with comments. ``remarks``: what
    whoever reads it must know of the run, a comment each at the top. ``by_file``: programs are named by their
    files, not by paths.
    """
    users = _users(observed.gpu_users)
    connect = listed_destinations(observed.destinations)
    listen = listed_ports(observed.listening)
    programs = (listed_files if by_file else listed_programs)(observed.executables)
    parts = [
        _HEAD + "".join(f"# {_one_line(remark)}\n" for remark in remarks),
        f'[policy]\nname = {_quoted(_one_line(name))}\nmode = "observe" # "enforce": do what the actions say\n',
        "[gpu]\n" + _list("users", users),
        "[network]\n"
        + _list("connect", connect)
        + 'connect_action = "alert" # "block", when nothing that is missing above is told any more\n'
        + _list("listen", listen)
        + 'listen_action = "alert"\n',
    ]
    if programs.entries:
        parts.append("[exec]\n" + _list("allow", programs) + 'allow_action = "alert"\n')
    else:  # an empty list would allow nothing
        parts += ["".join(f"# {note}\n" for note in programs.notes)] if programs.notes else []
    return "\n".join(parts)


def _users(users: Iterable[GpuUser]) -> Learned:
    """Globs for those who used the GPU: an interpreter's script, any other program's path."""
    found = sorted({_glob(user.script.rpartition("/")[2]) or _glob(user.exe) for user in users} - {""})
    if not found:
        return Learned([Entry("none", "nobody used it")])
    return Learned([Entry(text) for text in found])


def _glob(text: str) -> str:
    """A glob that matches ``text``, and little else. A program may be called none, which means nobody.

    The engine's globs know * and ? (any byte), no brackets.
    """
    found = "".join("?" if letter in "*?" else letter if letter.isprintable() else "*" for letter in text)
    return "?one" if found == "none" else found


def _list(key: str, learned: Learned) -> str:
    notes = "".join(f"# {note}\n" for note in learned.notes)
    if not learned.entries:
        return f"{notes}{key} = []\n"
    if len(learned.entries) == 1 and not learned.entries[0].remark:
        return f"{notes}{key} = [{_quoted(learned.entries[0].text)}]\n"
    lines = [
        f"    {_quoted(entry.text)},{f' # {_one_line(entry.remark)}' if entry.remark else ''}\n"
        for entry in learned.entries
    ]
    return f"{notes}{key} = [\n{''.join(lines)}]\n"


def _quoted(text: str) -> str:
    """A string of TOML, which writes printable ones as JSON does."""
    return json.dumps(text, ensure_ascii=False)


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text).strip() or "job"

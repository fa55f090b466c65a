# SPDX-License-Identifier: Apache-2.0
"""Groups that no rule file can name: what probes ask for beside the rules. They are numbered behind all others.

Who may use the GPU is said in globs over the executable's path or an interpreter's script, or by the file
itself, and user space decides. A probe is to know who certainly may not: whose path and arguments hold no
literal part of any glob, and who is none of the files. Literals are looked for anywhere, and below whom it must
be is left out, so it errs on the side of letting user space decide.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracer.detect.classes import WORKER_CODE
from tracer.rules.model import INTERPRETER_GROUP, Group
from tracer.rules.users import read_user

if TYPE_CHECKING:
    from tracer.rules.model import Terms

#: The most that :func:`hidden_groups` gives.
HIDDEN_MAX = 4
#: Bytes of a literal that are looked for: a part of it will do.
_LITERAL_MAX = 64

#: Python's multiprocessing children: they may do what their parent may.
WORKER_GROUP = Group("#workers", ("args",), "substring", True, (WORKER_CODE.decode(),), "", 0)
GPU_USER_GROUP_ID = "#gpu-users"
GPU_USER_FILES_ID = "#gpu-user-files"


def hidden_groups(terms: Terms) -> tuple[Group, ...]:
    """Those that rules under ``terms`` need."""
    if not users_known(terms):
        return (INTERPRETER_GROUP,)
    assert terms.gpu_users is not None
    who = [read_user(user).who for user in terms.gpu_users]
    parts = tuple(dict.fromkeys(_literal(one.text) for one in who if not one.is_file))
    users = Group(GPU_USER_GROUP_ID, ("path", "args"), "substring", True, parts, "", 0)
    inodes = tuple(dict.fromkeys(one.text for one in who if one.is_file))
    files = Group(GPU_USER_FILES_ID, ("inode",), "range", False, inodes, "", 0)
    return INTERPRETER_GROUP, WORKER_GROUP, users, files


def users_known(terms: Terms) -> bool:
    """Can a probe tell who certainly may not use the GPU?"""
    if terms.gpu_users is None:
        return False
    who = [read_user(user).who for user in terms.gpu_users]
    return all(one.is_file or _literal(one.text) for one in who)


def _literal(glob: str) -> str:
    """The longest part of a glob that has to be there as it is; empty if anything fits."""
    longest = max(re.split(r"[*?]+", glob), key=len).encode()[:_LITERAL_MAX]
    return longest.decode(errors="ignore")

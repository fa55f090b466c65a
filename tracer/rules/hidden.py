# SPDX-License-Identifier: Apache-2.0
"""Groups that no rule file can name: what probes ask for beside the rules. They are numbered behind all others.

Who may use the GPU is said in globs over the executable's path or an interpreter's script, and user space
decides. A probe is to know who certainly may not: whose path and arguments hold no literal part of any
glob. Literals are looked for anywhere, so it errs on the side of letting user space decide.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracer.detect.classes import WORKER_CODE
from tracer.rules.model import INTERPRETER_GROUP, Group

if TYPE_CHECKING:
    from tracer.rules.model import Terms

#: The most that :func:`hidden_groups` gives.
HIDDEN_MAX = 3
#: Bytes of a literal that are looked for: a part of it will do.
_LITERAL_MAX = 64

#: Python's multiprocessing children: they may do what their parent may.
WORKER_GROUP = Group("#workers", ("args",), "substring", True, (WORKER_CODE.decode(),), "", 0)
GPU_USER_GROUP_ID = "#gpu-users"


def hidden_groups(terms: Terms) -> tuple[Group, ...]:
    """Those that rules under ``terms`` need."""
    if not users_known(terms):
        return (INTERPRETER_GROUP,)
    assert terms.gpu_users is not None
    parts = tuple(dict.fromkeys(_literal(user) for user in terms.gpu_users))
    users = Group(GPU_USER_GROUP_ID, ("path", "args"), "substring", True, parts, "", 0)
    return INTERPRETER_GROUP, WORKER_GROUP, users


def users_known(terms: Terms) -> bool:
    """Can a probe tell who certainly may not use the GPU?"""
    return terms.gpu_users is not None and all(_literal(user) for user in terms.gpu_users)


def _literal(glob: str) -> str:
    """The longest part of a glob that has to be there as it is; empty if anything fits."""
    longest = max(re.split(r"[*?]+", glob), key=len).encode()[:_LITERAL_MAX]
    return longest.decode(errors="ignore")

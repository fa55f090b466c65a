# SPDX-License-Identifier: Apache-2.0
"""All that is wrong with a policy, and all that looks odd."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracer.errors import FileError, PolicyError
from tracer.policy import read_policy
from tracer.policy.advice import advice, advice_here
from tracer.policy.compile import apply
from tracer.policy.model import utc_today
from tracer.rules.load import join, read_file, read_packs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date
    from pathlib import Path

    from tracer.policy.model import Policy
    from tracer.rules.model import Remark, Rule


class Report(NamedTuple):
    """Of one policy. ``rules`` stand under it, ``made`` of them are its own; incomplete with ``errors``."""

    policy: Policy | None
    rules: tuple[Rule, ...]
    made: int
    errors: tuple[FileError, ...]
    remarks: tuple[Remark, ...]


def examine(path: Path, files: Sequence[Path], today: date | None = None) -> Report:
    """Take the policy at ``path`` together with the packs, its rule files and ``files``."""
    try:
        policy, wrong, remarks = read_policy(path)
    except PolicyError as error:
        return Report(None, (), 0, (error,), ())
    joined = join([*read_packs(), *(read_file(file) for file in (*policy.rule_files, *files))])
    errors: list[FileError] = [*wrong, *joined.errors]
    found: list[Remark] = [*remarks, *joined.remarks]
    if joined.errors:  # rules are missing: whether the policy's exist can't be told
        return Report(policy, (), 0, tuple(errors), tuple(found))
    applied = apply(policy, joined.groups, joined.rules)
    errors = sorted([*wrong, *applied.errors], key=lambda error: error.line or 0)
    if not errors:
        found += [*advice(policy, applied.rules, today or utc_today()), *advice_here(policy)]
    made = len(applied.rules) - len(joined.rules)
    return Report(policy, applied.rules, made, tuple(errors), tuple(found))

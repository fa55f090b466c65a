# SPDX-License-Identifier: Apache-2.0
"""Rules: TOML packs of indicators and what follows from them, compiled into flat arrays.

packs/*.toml, user's files ─ parse ─▶ drafts ─ load ─▶ RuleSet ─▶ automaton   strings → signals
                                                              └─▶ table       signals → rules
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracer.rules.load import join, read_file, read_packs
from tracer.rules.model import Group, Remark, Rule
from tracer.rules.ruleset import Explanation, Match, RuleSet, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Explanation", "Group", "Match", "Remark", "Rule", "RuleSet", "Sample", "load_rules"]


def load_rules(paths: Sequence[Path] = ()) -> RuleSet:
    """The packs, extended and overridden by ``paths`` in their order. Raises RuleError."""
    joined = join([*read_packs(), *(read_file(path) for path in paths)])
    if joined.errors:
        raise joined.errors[0]
    return RuleSet(joined.groups, joined.rules, joined.remarks, thresholds=joined.thresholds)

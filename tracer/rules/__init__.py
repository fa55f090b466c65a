# SPDX-License-Identifier: Apache-2.0
"""What the watch knows: rule packs in TOML, the user's own files, and their compiled forms.

Importing this does not import Numba: :mod:`.scan` and :mod:`.evaluate` do.
"""

from __future__ import annotations

from tracer.rules.model import Group, Remark, Rule
from tracer.rules.ruleset import Match, RuleSet, load_rules

__all__ = ["Group", "Match", "Remark", "Rule", "RuleSet", "load_rules"]

# SPDX-License-Identifier: Apache-2.0
"""An alert in others' words: see references.toml."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("references.toml").read_text(encoding="utf-8"))


def attack_name(technique: str) -> str:
    """What ATT&CK calls a technique; empty if the table does not have it."""
    return str(_table()["attack"].get(technique, ""))


def owasp(rule: str) -> list[str]:
    """Agentic threats of OWASP's that a rule's family speaks of."""
    return list(_table()["owasp"].get(rule.partition(".")[0], []))


def nist(rule: str) -> list[str]:
    """Subcategories of NIST's AI RMF to which a rule's family belongs."""
    return list(_table()["nist"].get(rule.partition(".")[0], []))

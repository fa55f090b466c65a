# SPDX-License-Identifier: Apache-2.0
"""A policy: a TOML file that says what is normal for one job, and what to do otherwise.

file ─ parse ─▶ Policy ─ compile ─▶ groups and rules, joined with the packs: one mechanism for both
                   └─ exceptions, looked at when an alert is finished
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tracer.errors import PolicyError
from tracer.policy.model import Exemption, Policy, Reach, Selector
from tracer.policy.parse import Parsed, parse
from tracer.rules import RuleSet, load_rules
from tracer.toml_reader import as_text, read_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = [
    "Exemption",
    "Policy",
    "Reach",
    "Selector",
    "apply_policy",
    "load_policy",
    "load_rules_under",
    "read_policy",
]

#: Bytes of a policy file.
SIZE_MAX = 1 << 20


def read_policy(path: Path) -> Parsed:
    """A policy with all of its mistakes. Raises PolicyError if it can't be read at all."""
    data = read_bytes(path, PolicyError, SIZE_MAX)
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return parse(as_text(data, str(path), PolicyError), str(path), digest)


def load_policy(path: Path) -> Policy:
    """A policy. Raises PolicyError for its first mistake; those about rules, :func:`load_rules_under` tells."""
    parsed = read_policy(path)
    if parsed.errors:
        raise parsed.errors[0]
    return parsed.policy


def apply_policy(policy: Policy, found: RuleSet) -> RuleSet:
    """The same rules under ``policy``, with its terms. Raises PolicyError, or RuleError if all together is
    too much.
    """
    from tracer.policy.compile import apply

    applied = apply(policy, found.groups, found.rules)
    if applied.errors:
        raise applied.errors[0]
    return RuleSet(applied.groups, applied.rules, found.remarks, applied.terms, found.thresholds)


def load_rules_under(policy: Policy | None, extra_paths: Sequence[Path] = ()) -> RuleSet:
    """The packs, the policy's rule files, then ``extra_paths``; and what the policy makes of them.

    Raises RuleError or PolicyError.
    """
    if policy is None:
        return load_rules(extra_paths)
    return apply_policy(policy, load_rules([*policy.rule_files, *extra_paths]))

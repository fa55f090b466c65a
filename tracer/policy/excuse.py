# SPDX-License-Identifier: Apache-2.0
"""Whether a policy excuses a finished alert, by the day on which it was raised."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tracer.text import decode

if TYPE_CHECKING:
    from tracer.alerts import Alert
    from tracer.policy.model import Policy


def excuses(policy: Policy, alert: Alert) -> bool:
    """Does ``policy`` have an exception for it?"""
    program, evidence = alert.program, alert.evidence
    found = policy.excused(
        alert.rule.id,
        decode(program.exe) if program else "",
        [decode(argument) for argument in program.argv] if program else [],
        evidence.get("remote_address"),
        evidence.get("remote_port"),
        evidence.get("remote_name"),
        datetime.fromtimestamp(alert.wall_ns // 1_000_000_000, UTC).date(),
    )
    return found is not None

# SPDX-License-Identifier: Apache-2.0
"""What is wrong with one entry, before it is known in which line it stands."""

from __future__ import annotations


class Unfit(ValueError):  # noqa: N818 - it says what the entry is
    """An entry that can't be used: what is wrong, and what to write instead."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

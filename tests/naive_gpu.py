# SPDX-License-Identifier: Apache-2.0
"""Who may use the GPU, in the plainest Python: the twin of tracer/detect/gpu.py."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(eq=False)
class Client:
    """A process as the judgement needs it."""

    parent: Client | None
    exe: str
    script: str = ""  # of an interpreter; a worker has its parent's
    shell: bool = False
    interpreter: bool = False
    worker: bool = False
    module: bool = False
    judged: bool = False

    def line(self) -> list[Client]:
        return [self, *(self.parent.line() if self.parent else [])]


class Judge:
    """Sees compute contexts in order; says what is wrong with each, or ""."""

    def __init__(self, users: tuple[str, ...] | None = None) -> None:
        self.users = users
        self.trainer: tuple[str, str] | None = None
        self.launchers: list[Client] = []

    def __call__(self, client: Client) -> str:
        if client.judged:
            return ""
        client.judged = True
        if self.users is not None:
            return "" if self.listed(client) else "gpu-not-listed"
        if self.trainer is None:
            self.trainer = (client.exe, client.script)
            self.launchers = client.line()
            return ""
        if client.exe != self.trainer[0]:
            return "gpu-other-executable"
        if not client.interpreter or client.script == self.trainer[1]:
            return ""
        return "gpu-other-script" if self.started_apart(client) else ""

    def holder(self, client: Client) -> str:
        """One that held a GPU when the watch began."""
        if self.users is not None:
            return self(client)
        client.judged = True
        if self.trainer is None:
            self.trainer = (client.exe, client.script)
            self.launchers = client.line()
        return ""

    def listed(self, client: Client) -> bool:
        texts = [client.exe] + ([client.script] if client.interpreter and not client.worker else [])
        for text in texts:
            for pattern in self.users or ():
                if fnmatchcase(text, pattern) or fnmatchcase(text.rpartition("/")[2], pattern):
                    return True
        return client.worker and client.parent is not None and self.listed(client.parent)

    def started_apart(self, client: Client) -> bool:
        for above in client.line()[1:]:
            launcher = any(above is one for one in self.launchers)
            if above.shell and not launcher:
                return True
            if (above.exe, above.script) == self.trainer:
                return not client.module
            if launcher:
                return False
        return True

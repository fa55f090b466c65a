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
        for user in self.users or ():
            who, _, below = user.partition(" below ")
            if self.runs(client, who) and (
                not below or any(self.runs(above, below) for above in client.line()[1:])
            ):
                return True
        return client.worker and client.parent is not None and self.listed(client.parent)

    def runs(self, client: Client, who: str) -> bool:
        """Is it this program: a file by its number, or a glob over its path or script?"""
        if who.startswith("inode:"):
            return who == f"inode:0:0:{sum(client.exe.encode())}:0:0"
        texts = [client.exe] + ([client.script] if client.interpreter and not client.worker else [])
        return any(fnmatchcase(text, who) or fnmatchcase(text.rpartition("/")[2], who) for text in texts)

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

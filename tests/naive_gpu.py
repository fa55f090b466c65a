# SPDX-License-Identifier: Apache-2.0
"""Who may use the GPU, and where clients come from, in the plainest Python: the twin of tracer/detect/gpu.py and
tracer/detect/provenance.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

SECOND = 1_000_000_000
_NOT_THE_JOBS = {"gpu-not-listed", "gpu-other-executable", "gpu-other-script"}


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
    new: bool = False  # its executable was written since the watch began
    tool: bool = False  # born in a tool call
    ended: bool = False
    # since it has executed something
    judged: bool = False
    opened: bool = False
    borrowed: bool = False
    computes: bool = False
    heir: bool = False  # forked from one that computes
    suspect: bool = False
    tuning_told: bool = False
    work_told: bool = False

    def line(self) -> list[Client]:
        return [self, *(self.parent.line() if self.parent else [])]

    def fork(self, *, in_tool: bool) -> Client:
        return Client(
            self, self.exe, self.script, self.shell, self.interpreter, self.worker, self.module, self.new,
            tool=self.tool or in_tool, heir=self.computes or self.heir, suspect=self.suspect,
        )  # fmt: skip

    def execute(self, exe: str, *, new: bool, **program: bool | str) -> None:
        fresh = {
            "script": "",
            "shell": False,
            "interpreter": False,
            "worker": False,
            "module": False,
            **program,
        }
        if fresh["worker"]:
            fresh["script"] = self.parent.script if self.parent else ""
        flags = ("judged", "opened", "borrowed", "computes", "heir", "suspect", "tuning_told", "work_told")
        for key, value in {**fresh, "exe": exe, "new": new, **dict.fromkeys(flags, False)}.items():
            setattr(self, key, value)


class Judge:
    """Sees what clients do, in order; says which facts are told of each."""

    def __init__(self, users: tuple[str, ...] | None = None, idle_s: int = 300) -> None:
        self.users = users
        self.idle_ns = idle_s * SECOND
        self.trainer: tuple[str, str] | None = None
        self.of_tool = False
        self.launchers: list[Client] = []
        self.busy = 0
        self.passed = 0

    def compute(self, client: Client, now: int) -> set[str]:
        """It makes a compute context."""
        client.borrowed |= not client.opened
        client.computes = True
        found: set[str] = set()
        if not client.judged:
            client.judged = True
            first = self.users is None and self.trainer is None
            found = self.who(client)
            found |= self.whence(client, found, first=first)
        self._note_job(client, now)
        return found

    def tune(self, client: Client, now: int) -> set[str]:
        """It asks the driver to change how the card runs."""
        client.borrowed |= not client.opened
        found: set[str] = set()
        if not client.tuning_told:
            client.tuning_told = True
            found = {"gpu-tunes"}
            if client.new and not self.runs_first_file(client):
                found.add("gpu-new-program")
            if self.in_foreign_tool(client):
                found.add("gpu-in-tool-call")
        self._note_job(client, now)
        return found

    def _note_job(self, client: Client, now: int) -> None:
        if client.computes and not client.suspect:
            self.busy = now

    def who(self, client: Client) -> set[str]:
        if self.users is not None:
            return set() if self.listed(client) else {"gpu-not-listed"}
        if self.trainer is None:
            self.trainer = (client.exe, client.script)
            self.launchers = client.line()
            return set()
        if client.exe != self.trainer[0]:
            return {"gpu-other-executable"}
        if not client.interpreter or client.script == self.trainer[1]:
            return set()
        return {"gpu-other-script"} if self.started_apart(client) else set()

    def whence(self, client: Client, who: set[str], *, first: bool) -> set[str]:
        if first:
            self.of_tool = client.tool
            return {"gpu-first-client"} | ({"gpu-new-program"} if client.new else set())
        found = set()
        if client.new and not self.runs_first_file(client):
            found.add("gpu-new-program")
        if self.in_foreign_tool(client):
            found.add("gpu-in-tool-call")
        if client.borrowed and not client.heir:
            found.add("gpu-borrowed")
        named = self.users is not None and not who
        odd = found & {"gpu-new-program"} if named else found
        client.suspect |= bool(who or odd)
        return found | ({"gpu-listed"} if named else set())

    def runs_first_file(self, client: Client) -> bool:
        return self.trainer is not None and client.exe == self.trainer[0]

    def in_foreign_tool(self, client: Client) -> bool:
        same = self.runs_first_file(client) and (
            not client.interpreter or self.trainer == (client.exe, client.script)
        )
        return client.tool and not self.of_tool and not same

    def hold(self, client: Client, now: int) -> set[str]:
        """It held a GPU when the watch began."""
        client.opened = client.computes = True
        found: set[str] = set()
        if self.users is not None:
            found = set() if client.judged else self.who(client)
        elif self.trainer is None:
            self.who(client)
        client.judged = True
        client.suspect |= bool(found)
        self._note_job(client, now)
        return found

    def pass_told(self, now: int) -> None:
        """What processes compute is told."""
        if now - self.passed > 10 * SECOND and self.busy:
            self.busy = now
        self.passed = now

    def work(self, client: Client, now: int) -> set[str]:
        """It was seen at work."""
        if not client.computes and not client.heir:
            return set()
        behind = not client.computes and self.left_behind(client)
        if not client.suspect and not behind:
            self.busy = now
            return set()
        known = self.busy and now - self.passed <= 10 * SECOND
        if not known or client.work_told or now - self.busy < self.idle_ns:
            return set()
        client.work_told = True
        return {"gpu-job-idle" if client.suspect else "gpu-forked-on"}

    def left_behind(self, client: Client) -> bool:
        return next((above.ended for above in client.line()[1:] if above.computes), False)

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


def rules_of(facts: set[str]) -> set[tuple[str, str]]:
    """What the packs tell of these facts, by rule and severity."""
    told = set()
    if facts & {"gpu-not-listed", "gpu-other-executable"}:
        told.add(("gpu.unexpected-client", "high"))
    elif "gpu-other-script" in facts:
        told.add(("gpu.unexpected-client", "medium"))
    tunes = "gpu-tunes" in facts
    if "gpu-new-program" in facts and "gpu-listed" in facts:
        told.add(("gpu.new-program", "high" if "gpu-in-tool-call" in facts else "medium"))
    elif {"gpu-new-program", "gpu-first-client"} <= facts:
        told.add(("gpu.new-program", "low"))
    if not facts & (_NOT_THE_JOBS | {"gpu-listed", "gpu-tunes"}):
        told |= {(f"gpu.{name}", "medium") for fact, name in _ALONE.items() if fact in facts}
    if tunes:
        told.add(("gpu.tuning", "medium" if facts & {"gpu-new-program", "gpu-in-tool-call"} else "low"))
    if facts & {"gpu-job-idle", "gpu-forked-on"}:
        told.add(("gpu.goes-on", "medium"))
    return told


_ALONE = {"gpu-in-tool-call": "tool-call", "gpu-borrowed": "borrowed"}

# SPDX-License-Identifier: Apache-2.0
"""Which files are obeyed later, as a tree of folders."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tracer.kernel import schema

KEYS, CRON, SERVICE, STARTUP, PRELOAD, ACCOUNT = (
    schema.FOOTHOLD_WHAT[f"FOOTHOLD_{name}"]
    for name in ("KEYS", "CRON", "SERVICE", "STARTUP", "PRELOAD", "ACCOUNT")
)

#: Below a home. ``*`` is any one name.
_HOME: dict[int, str] = {
    # sshd runs ~/.ssh/rc, and reads environment where it is told to (sshd(8), FILES)
    KEYS: ".ssh/authorized_keys .ssh/authorized_keys2 .ssh/rc .ssh/environment",
    SERVICE: ".config/systemd/user/* .config/systemd/user/*/* .local/share/systemd/user/*",
    # bash(1), zsh(1), fish(1), tcsh(1), ksh(1): FILES; environment.d(5); pam_env(8); the desktops' autostart
    STARTUP: (
        ".profile .bash_profile .bash_login .bashrc .bash_logout .zshenv .zprofile .zshrc .zlogin .kshrc .cshrc .tcshrc "
        ".login .xprofile .xsession .xsessionrc .xinitrc .pam_environment .config/environment.d/* "
        ".config/fish/config.fish .config/fish/conf.d/* .config/autostart/*"
    ),
}
#: Below the root.
_SYSTEM: dict[int, str] = {
    CRON: (
        "etc/crontab etc/anacrontab etc/cron.d/* etc/cron.hourly/* etc/cron.daily/* etc/cron.weekly/* "
        "etc/cron.monthly/* var/spool/cron/* var/spool/cron/*/* var/spool/at/*"
    ),
    SERVICE: (
        "etc/systemd/system/* etc/systemd/system/*/* etc/systemd/user/* run/systemd/system/* usr/lib/systemd/system/* "
        "usr/local/lib/systemd/system/* etc/init.d/* etc/rc.local etc/inittab"
    ),
    STARTUP: (
        "etc/profile etc/profile.d/* etc/bash.bashrc etc/bashrc etc/environment etc/zsh/* etc/zshenv etc/zshrc etc/zprofile"
    ),
    PRELOAD: "etc/ld.so.preload",
    ACCOUNT: "etc/passwd etc/shadow etc/sudoers etc/sudoers.d/*",
    KEYS: "etc/ssh/sshd_config etc/ssh/sshd_config.d/*",
}
#: Homes that are watched. A host with more users has them elsewhere, and no job's tree in all of them.
HOMES_MAX = 256


@dataclass(slots=True)
class Folder:
    """What is obeyed in one folder. ``any``: whatever its name; ``below``: folders in it, ``*`` any one."""

    files: dict[str, int] = field(default_factory=dict)
    any: int = 0
    below: dict[str, Folder] = field(default_factory=dict)

    def what(self, name: str) -> int:
        """What a file of this name is; 0: nothing to us."""
        return self.files.get(name, self.any)

    def folder(self, name: str) -> Folder | None:
        """What is obeyed in the folder of this name."""
        return self.below.get(name) or self.below.get("*")

    def first(self) -> int:
        """What any of its files is: said of a whole folder that is replaced."""
        for what in (self.any, *self.files.values(), *(folder.first() for folder in self.below.values())):
            if what:
                return what
        return 0


def _tree(places: dict[int, str]) -> Folder:
    root = Folder()
    for what, patterns in places.items():
        for pattern in patterns.split():
            *folders, name = pattern.split("/")
            at = root
            for folder in folders:
                at = at.below.setdefault(folder, Folder())
            if name == "*":
                at.any = what
            else:
                at.files[name] = what
    return root


HOME = _tree(_HOME)
SYSTEM = _tree(_SYSTEM)


def homes() -> list[Path]:
    """Homes of people and of root, as the host's list of users has them; the services' own are left out."""
    people = (user for user in pwd.getpwall() if user.pw_uid == 0 or 1000 <= user.pw_uid < 65534)
    found = dict.fromkeys(Path(user.pw_dir) for user in people if os.path.isdir(user.pw_dir))
    return [home for home in found if home != Path("/")][:HOMES_MAX]


def everywhere(own: Iterable[Path] = ()) -> list[tuple[Path, Folder]]:
    """All that is watched on this host: where, and what there. ``own``: other homes."""
    return [(Path("/"), SYSTEM), *((home, HOME) for home in dict.fromkeys([*homes(), *own]))]

# SPDX-License-Identifier: Apache-2.0
"""Is it the system's package manager that sets something up?

Only what root runs from the system's own folders counts: nobody else can put a program there.
"""

from __future__ import annotations

from collections.abc import Iterable

_FOLDERS = (b"/usr/bin/", b"/usr/sbin/", b"/bin/", b"/sbin/", b"/usr/libexec/")
_NAMES = frozenset(
    b"apk apt apt-get aptitude dnf dnf-3 dnf5 dpkg microdnf pacman rpm tdnf unattended-upgrade yum zypper".split()
)


def _is_one(path: bytes) -> bool:
    folder = next((f for f in _FOLDERS if path.startswith(f)), None)
    return folder is not None and path[len(folder) :] in _NAMES


def by_packages(line: Iterable[tuple[bytes, tuple[bytes, ...]]]) -> bool:
    """Is one of these programs (path, arguments) a package manager? dnf and yum are Python scripts."""
    for path, argv in line:
        if _is_one(path):
            return True
        if path.startswith(b"/usr/bin/python3") and any(_is_one(word) for word in argv[1:3]):
            return True
    return False

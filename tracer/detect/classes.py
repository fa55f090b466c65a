# SPDX-License-Identifier: Apache-2.0
"""Classes of programs and the names they go by."""

from __future__ import annotations

# Classes of programs, as bits: a program can be called by names of several classes at once.
SHELL = 1 << 0
PYTHON = 1 << 1
PERL = 1 << 2
RUBY = 1 << 3
NODE = 1 << 4
PHP = 1 << 5
LUA = 1 << 6
JULIA = 1 << 7
RSCRIPT = 1 << 8
#: Programs that take a program as an argument: the classes above.
INTERPRETERS = (1 << 9) - 1
OPENSSH = 1 << 9
AUTOSSH = 1 << 10
DBCLIENT = 1 << 11
#: Dropbear in one binary: a client when called by a client's name.
DROPBEAR = 1 << 12
#: One binary, many programs: the next argument names the one.
MULTICALL = 1 << 13

NAMES: dict[int, str] = {
    SHELL: "ash bash csh dash fish hush ksh ksh93 lksh mksh oksh posh rbash rksh rzsh sh tcsh yash zsh",
    PYTHON: "ipython micropython pypy python pythonw",
    PERL: "perl",
    RUBY: "jruby ruby",
    NODE: "bun node nodejs",
    PHP: "php php-cgi php-cli",
    LUA: "lua luajit luau texlua",
    JULIA: "julia",
    RSCRIPT: "R Rscript littler",
    OPENSSH: "gsissh hpnssh slogin ssh",
    AUTOSSH: "autossh",
    DBCLIENT: "dbclient",
    DROPBEAR: "dropbear dropbearmulti",
    MULTICALL: "busybox dropbearmulti toybox",
}

#: How the code begins that Python's multiprocessing gives its children (Lib/multiprocessing/spawn.py,
#: forkserver.py, util.py).
WORKER_CODE = b"from multiprocessing."

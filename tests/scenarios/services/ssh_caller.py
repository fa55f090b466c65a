# SPDX-License-Identifier: Apache-2.0
"""ssh_caller.py PORT FILE: takes a connection, and is the SSH client on it. FILE says that it got in."""

import asyncio
import sys
from pathlib import Path

import asyncssh


async def main() -> None:
    visited = asyncio.Event()

    async def visit(connection: asyncssh.SSHClientConnection) -> None:
        result = await connection.run("anything")
        if result.exit_status == 42:
            visited.set()
        connection.close()

    await asyncssh.listen_reverse(
        "", int(sys.argv[1]), acceptor=visit, client_keys=["key"], known_hosts=None, username="root"
    )
    await visited.wait()


asyncio.run(main())
Path(sys.argv[2]).touch()

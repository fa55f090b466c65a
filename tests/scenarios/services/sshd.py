# SPDX-License-Identifier: Apache-2.0
"""sshd.py [PORT…]: OpenSSH's server for root, with keys made for the moment (default: port 22).

Root of inside may log in: the key lies where ssh looks for it, and in $SCRATCH/key for other clients.
"""

import os
import shutil
import sys
from pathlib import Path

from tracer.demo import sshd

scratch = Path(os.environ["SCRATCH"])
folder = scratch / "sshd"
folder.mkdir(mode=0o700)
key = sshd.make_keys(folder)
dot_ssh = scratch / "inside" / ".ssh"
dot_ssh.mkdir(mode=0o700)
for place in (scratch / "key", dot_ssh / "id_ed25519"):
    shutil.copy(key, place)
    shutil.copy(f"{key}.pub", f"{place}.pub")
(dot_ssh / "known_hosts").write_text("* " + (folder / "host.pub").read_text())
more = "Subsystem sftp internal-sftp\nPermitTunnel yes\nGatewayPorts clientspecified\n"
argv = sshd.command(
    folder, [f"{any_}:{port}" for port in sys.argv[1:] or ["22"] for any_ in ("0.0.0.0", "[::]")], more
)
os.execv(argv[0], [*argv, "-e"])

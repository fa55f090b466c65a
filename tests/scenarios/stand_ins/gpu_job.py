# SPDX-License-Identifier: Apache-2.0
"""A job on a stand-in for a GPU: makes a compute context, then does what it is told.

gpu_job.py --device /dev/full --tool bash -- COMMAND…   a tool call: runs the command in a span, and waits
gpu_job.py --device /dev/full --busy 4                  keeps a processor busy for so many seconds
gpu_job.py --device /dev/full --leave 4                 ends; a fork of it is busy for so long
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from gpu_client import Client, compute_steps

import tracer


def be_busy(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description="A job on a stand-in for a GPU.")
    parser.add_argument("--device", required=True)
    parser.add_argument("--tool")
    parser.add_argument("--busy", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--leave", type=float, default=0, metavar="SECONDS")
    parser.add_argument("command", nargs="*")
    options = parser.parse_args()
    client = Client(options.device)
    client.run(compute_steps())
    be_busy(options.busy)
    if options.leave and os.fork() == 0:
        os.setsid()
        be_busy(options.leave)
    elif options.tool:
        with tracer.span(tool=options.tool):
            subprocess.run(options.command, check=True)


if __name__ == "__main__":
    main()

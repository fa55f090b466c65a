# SPDX-License-Identifier: Apache-2.0
"""Run a command as root under another kernel: ``python tests/vm/run.py --kernel 6.1 -- command``.

The folder is the current one, the output the command's, and so is the exit status; 124 if the time was
over, 125 if there was no guest or it did not get that far.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

import headers
import kernels
from guest import GuestError, Setting, run

TIMED_OUT, NO_GUEST = 124, 125
NVIDIA_MODULE = "VIGILES_NVIDIA_MODULE"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernel", choices=kernels.SERIES, default="6.12", help="the newest of this series")
    parser.add_argument(
        "--no-bpf-lsm", action="store_true", help="boot without BPF among the security modules"
    )
    cgroup = parser.add_mutually_exclusive_group()
    cgroup.add_argument("--hybrid", action="store_true", help="cgroup v1, and v2 at /sys/fs/cgroup/unified")
    cgroup.add_argument("--cgroup-v1", action="store_true", help="cgroup v1 alone")
    parser.add_argument(
        "--nvidia",
        action="store_true",
        help=f"build the stand-in driver, and say in {NVIDIA_MODULE} where it is",
    )
    parser.add_argument("--headers", action="store_true", help="have the kernel's headers installed")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for the command")
    parser.add_argument("--console", action="store_true", help="show what the guest's kernel says")
    parser.add_argument("command", nargs="+", help="after --")
    return parser.parse_args()


def _write(stream: int, data: bytes) -> None:
    while data:
        data = data[os.write(stream, data) :]


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


def main() -> int:
    """Return the exit status."""
    options = _arguments()
    signal.signal(signal.SIGTERM, _end)
    try:
        kernel = kernels.find(options.kernel)
        environment = dict(item.split("=", 1) for item in options.env)
        if options.nvidia:
            environment[NVIDIA_MODULE] = str(headers.nvidia_module(kernel))
        result = run(
            kernel,
            options.command,
            Setting(
                not options.no_bpf_lsm,
                "hybrid" if options.hybrid else "v1" if options.cgroup_v1 else "unified",
                headers.installed(kernel) if options.headers else None,
            ),
            environment=environment,
            timeout_s=options.timeout,
            on_output=lambda data: _write(1, data),
            on_console=(lambda data: _write(2, data)) if options.console else None,
        )
    except TimeoutError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return TIMED_OUT
    except (GuestError, kernels.UnavailableError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return NO_GUEST
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    print(
        f"run.py: {kernel.release}, booted in {result.boot_s:.1f} s, status {result.status} after {result.wall_s:.1f} s",
        file=sys.stderr,
    )
    return result.status


if __name__ == "__main__":
    sys.exit(main())

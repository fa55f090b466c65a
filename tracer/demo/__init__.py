# SPDX-License-Identifier: Apache-2.0
"""The demonstration: a small agent that works for a moment and then goes wrong, under watch.

Everything it does is real, and stays on this machine: the "miner" is a copy of echo, the tunnel leads
to an sshd of our own on loopback, the GPU is a character device that refuses every ioctl.
"""

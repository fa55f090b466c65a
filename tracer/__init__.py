# SPDX-License-Identifier: Apache-2.0
"""vigiles: an eBPF tracer for agent process trees on GPU hosts."""

__version__ = "0.1.0"

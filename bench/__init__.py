# SPDX-License-Identifier: Apache-2.0
"""What it costs and how fast it is: every figure in the README comes from here."""

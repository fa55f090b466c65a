# SPDX-License-Identifier: Apache-2.0
"""GPU devices of this host, and names for what is asked of them."""

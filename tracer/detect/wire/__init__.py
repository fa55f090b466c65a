# SPDX-License-Identifier: Apache-2.0
"""What a flow is, told by its first bytes."""

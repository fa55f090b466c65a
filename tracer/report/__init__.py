# SPDX-License-Identifier: Apache-2.0
"""What happened, for whoever comes the morning after.

    recording ─ gather ─▶ story (plain data) ─▶ page (HTML), text (Markdown), sarif, ocsf, or as it is (JSON)

Whatever the tree chose (names, arguments, hosts) becomes printable in ``gather`` and is escaped again by
whoever writes a format of their own.
"""

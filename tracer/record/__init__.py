# SPDX-License-Identifier: Apache-2.0
"""A watch on disk: what the engine has taken in, in that order, so that it can be taken in again.

    watch ─ recorder ─▶ queue ─ writer (a thread) ─▶ file(s) ─ reader ─▶ player ─▶ engine, alerts

``layout`` is the format; only ``writer`` writes it and only ``reader`` reads it.
"""

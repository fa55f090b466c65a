# SPDX-License-Identifier: Apache-2.0
"""Which line of an RL log belongs to an alert, for runs whose tool calls were not marked.

log ─ logs, by a map ─▶ tool calls ┐
recording ─ lines ─▶ who ran what  ┴ match ─▶ candidates, each with how sure it is, and why
"""

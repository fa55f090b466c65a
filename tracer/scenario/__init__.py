# SPDX-License-Identifier: Apache-2.0
"""Attacks and everyday work, acted out with real tools: does the watch tell the one from the other?

A scenario is a small TOML file (:mod:`.spec`). It is run (:mod:`.runner`) in network namespaces that
lead nowhere (:mod:`.world`), beside helpers that play the rest of the internet (:mod:`.services`), and
judged by the alerts it caused (:mod:`.verdict`).
"""

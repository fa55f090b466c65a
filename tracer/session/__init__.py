# SPDX-License-Identifier: Apache-2.0
"""From options to a watch that runs and ends well: set-up, signals, exit status, clean-up.

base      what every session has: policy and rules, the recording, the watch, the listing, the guard
outlets   where its alerts and lines go
duties    what its watch sees to beside the rings
run       a command of our own
attach    a tree that runs already
adopt     a tree whose tracer is gone, and what is left of trees that have ended
"""

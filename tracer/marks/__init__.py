# SPDX-License-Identifier: Apache-2.0
"""Spans as the watched programs mark them. Runs inside those: standard library only, and little of it.

api       ``with tracer.span(tool="bash", step=412):``, which span each task is in
acts      before a process is started or a connection made, the thread is put into its task's span
channel   the system call by which the probes are told
text      what is said of a span, as bytes
command   ``vigiles span``, for shells
"""

# SPDX-License-Identifier: Apache-2.0
"""What is done about an alert: by the probes where they could, else from here.

fired ─▶ responder: what do the rules call for, what has the probe done, what is left ─▶ acts, orders
"""

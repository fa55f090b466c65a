# SPDX-License-Identifier: Apache-2.0
"""What kind of program an executed file is, found out from its bytes: see :mod:`.examiner`.

The files belong to the traced tree: each may be made to break whoever reads it. So nothing is mapped (a
file cut short would raise SIGBUS), all reading goes through :mod:`.bounded`, and a file that can't be
understood gives the facts found so far and a list of problems.
"""

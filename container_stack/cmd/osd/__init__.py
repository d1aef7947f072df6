# SPDX-License-Identifier: Apache-2.0
"""``osd``: the Open Storage daemon, and the command line that talks to it."""

# SPDX-License-Identifier: Apache-2.0
"""What this host can do: containers, images, storage, file systems and networks."""

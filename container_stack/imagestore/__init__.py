# SPDX-License-Identifier: Apache-2.0
"""Images on volumes of a Datera EDF array: the array's client, the data path, the service."""

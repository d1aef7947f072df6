# SPDX-License-Identifier: Apache-2.0
"""Open Storage: named volumes for containers, on one host or many.

::

    model       what a volume is, and what may be asked for
    backend     the contract of those who keep volumes: backends/
    registry    the contract of who remembers them: sql/
    ownership   the contract of who says which host may use a volume: cluster/
    service     what the REST API, the Docker plugin and the command line call
"""

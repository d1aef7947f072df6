# SPDX-License-Identifier: Apache-2.0
"""The REST interface of Open Storage, in the words of OSD 0.3 and in those of later releases.

::

    rest        all of it: the sockets, started and stopped
    api         one application per driver, and one for the cluster
    volumes     what can be asked of volumes; cluster, of nodes;
                drivers, of the daemon
    original    how 0.3 puts its answers; later, how 2016 and after did
    body        what clients send, whichever they speak
    metrics     what Prometheus is told
    openapi     the interface, described for machines
    servers     WSGI on unix sockets; tls, TLS before them
"""

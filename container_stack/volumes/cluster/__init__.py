# SPDX-License-Identifier: Apache-2.0
"""Which host may use a volume, where there are many.

::

    opening      an Ownership for a coordination URL
    owners       claims and releases, and taking over what a dead node owned
    membership   this node's lease: held, about to end, lost
    heart        what the registry is told of this node, and of dead ones
    leases       the contract of who gives out leases: etcd
    single       one host: the kernel's locks, by tooz
    guarding     the daemon's side of the guard, and what both know: record
    guard        the process that ends all use when the daemon can't
    ending       ending all use of all volumes on this host

Every node holds one lease. It counts the lease's end for itself, by a clock that nobody sets and
that goes on while the host sleeps, from before it asked; so its own idea of the end is early,
never late. Well before that it stops using volumes. Who wants a volume of another node first gets
that node's lease, which can be had only when it has ended.
"""

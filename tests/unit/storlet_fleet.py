# SPDX-License-Identifier: Apache-2.0
"""A few simulated nodes, a Swift in memory, and managers that may die at any step."""

import threading

from container_stack.storlets import model, settings
from container_stack.storlets.deployment import deployer, status
from container_stack.storlets.verification import report
from container_stack.testing import leases, nodes, objects, tiny_images

ACCOUNT = model.Account("AUTH_305f5f3d12834be187238e080b8643e4")
OTHER = model.Account("AUTH_b7238e080b8643e4305f5f3d12834be1")
MANAGER = "AUTH_stlops"
BASE = b"the base layer " * 1000


class Killed(BaseException):
    """The manager is dead; nothing that it tries to clean up happens any more."""


class Countdown:
    """Kills a manager at one of its calls of nodes and store."""

    def __init__(self, calls: int = 1_000_000) -> None:
        self._left = calls
        self._lock = threading.Lock()

    def __call__(self, *_what: object) -> None:
        with self._lock:
            self._left -= 1
            if self._left <= 0:
                raise Killed

    @property
    def struck(self) -> bool:
        return self._left <= 0


class MortalStore:
    """A store whose user can die before and after every call."""

    def __init__(self, store, step):
        self._store = store
        self._step = step

    @property
    def account(self):
        return self._store.account

    def __getattr__(self, name):
        call = getattr(self._store, name)

        def mortal(*args, **kwargs):
            self._step("store", name)
            result = call(*args, **kwargs)
            if name in ("write", "write_manifest", "remove"):
                self._step("store", name)
            return result

        return mortal


class World:
    """Nodes node1, node2, ..., and what managers share."""

    def __init__(self, count: int = 3, **policy: int) -> None:
        self.step = lambda *_what: None
        base = tiny_images.diff_ids(image())
        self.nodes = [
            nodes.SimulatedNode(f"node{n}", base[:1], step=self._take_step)
            for n in range(1, count + 1)
        ]
        self.store = objects.MemoryObjects(MANAGER)
        self.leases = leases.MemoryLeases()
        self.policy = settings.Rollout(**policy)
        self.events = []

    def __getitem__(self, number: int) -> nodes.SimulatedNode:
        return self.nodes[number - 1]

    def manager(self, **kwargs) -> deployer.Deployer:
        """Return a manager that has just started; it may die at ``self.step``."""
        return deployer.Deployer(
            MortalStore(self.store, self._take_step),
            kwargs.pop("nodes", self.nodes),
            kwargs.pop("lock", self.leases.hold),
            who=kwargs.pop("who", "ann"),
            policy=kwargs.pop("policy", self.policy),
            **kwargs,
        )

    def deploy(self, made, **kwargs) -> deployer.Result:
        kwargs.setdefault("watcher", self.events.append)
        manager = kwargs.pop("manager", None) or self.manager()
        account = kwargs.pop("account", ACCOUNT)
        return manager.deploy(account, made, verified(made, account), **kwargs)

    def dies(self, calls: int, action) -> bool:
        """Return whether a manager died of this when it had so many calls to live."""
        countdown = self.step = Countdown(calls)
        try:
            action()
        except Killed:
            return True
        finally:
            self.step = lambda *_what: None
            # As the kernel and etcd do for a process that is no more.
            self.leases.lose()
        assert not countdown.struck
        return False

    def images(self) -> set[str | None]:
        """Return what the account has on the nodes, asked as a client would."""
        return {node.request(ACCOUNT) for node in self.nodes}

    def check(self, *served: str) -> status.Status:
        """See that all is well, and that clients met no other images than these."""
        for node in self.nodes:
            assert node.requests.failed == 0, node.name
            assert set(node.requests.served) <= {nodes.DEFAULT, *served}, node.name
            assert node.leftovers == (), node.name
        found = self.manager().status(ACCOUNT)
        assert found.right, found
        return found

    def _take_step(self, *what: object) -> None:
        self.step(*what)


def image(name: str = "a", fault: str = ""):
    """Return an image; those of different names differ in their last layer."""
    return tiny_images.make([BASE, b"common", name.encode() * 100], fault)


def verified(made, account: model.Account = ACCOUNT, state=report.State.PASSED) -> report.Report:
    """Return the report of a verification."""
    findings = [report.Finding(1, "digests", state, "seen", "")]
    return report.Report(account.name, made.image_id, 4711, 1_700_000_000.5, 1.25, findings)

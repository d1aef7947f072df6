# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a simulated node, and what its clients met meanwhile."""

import collections
import dataclasses


@dataclasses.dataclass(slots=True)
class Faults:
    """What is wrong with a node now.

    :param down: it doesn't answer.
    :param slow: seconds that each call takes longer.
    :param full: there is no room for another image.
    :param probe: no new sandbox passes its probe.
    :param loses: it says that an image is staged and has none.
    :param deaf: it says that it has switched and has not.
    :param unready: what its check complains of.
    :param dies: the step at which it goes down, as "stage:half"; one of :data:`STEPS`.
    """

    down: bool = False
    slow: float = 0.0
    full: bool = False
    probe: bool = False
    loses: bool = False
    deaf: bool = False
    unready: str = ""
    dies: str = ""


#: Points at which a node, or who works with it, can die; those without a colon are the calls.
STEPS = (
    *("check", "state", "shared_layers"),
    *("stage", "stage:half", "stage:named"),
    *("stage_from", "stage_from:pulled"),
    *("switch", "switch:beside", "switch:tagged", "switch:swapped", "switch:drained"),
    *("clear", "clear:untagged", "clear:halted"),
    *("forget", "forget:gone", "sweep"),
)


@dataclasses.dataclass(slots=True)
class Requests:
    """What clients met.

    :param served: how many requests ran in which image; the default one among them.
    :param failed: how many found an image that is missing or unusable.
    """

    served: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    failed: int = 0

"""A stock item: how many units of a physical game there are, and who holds them.

available + reserved + allocated = total, each at least zero, always. A cart holds units softly for
some minutes; checkout turns that into a hard hold for an order, which ends in a sale, or is
released when the order is cancelled. An overdue soft hold counts as gone, whether or not an event
says so yet. A hard one ends with its order or, for an order of another system, when its deadline is
fired.

Its events are in `events`, its state in `state`, its decisions in `decisions`.
"""

from domain.inventory.decisions import *  # noqa: F403
from domain.inventory.events import *  # noqa: F403
from domain.inventory.state import *  # noqa: F403

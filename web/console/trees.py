"""Events as trees of cause and effect."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from web.console.answers import Event

MAX_LEVELS = 40
"""How deep a tree is shown: what lies deeper stands beside its cause."""


@dataclass(frozen=True)
class Node:
    """An event, and the events that it caused, in order."""

    event: Event
    effects: list["Node"] = field(default_factory=list)


def tree_of(events: Iterable[Event], one: Event) -> Node:
    """The tree of an event: from its first cause among these events to all that followed."""
    known = {each.event_id: each for each in events} | {one.event_id: one}
    root = one
    while (cause := known.get(root.causation_id or "")) is not None and (
        cause.position < root.position
    ):
        root = cause
    return _grown([root], known.values())[0]


def siblings_of(events: Iterable[Event], one: Event, tree: Node) -> list[Node]:
    """The other trees of the event's request: what it led to beside the event's own tree."""
    if one.correlation_id is None:
        return []
    events = list(events)
    known = {each.event_id for each in events} | {one.event_id}
    roots = [
        each
        for each in events
        if each.correlation_id == one.correlation_id
        and each.causation_id not in known
        and each.event_id != tree.event.event_id
    ]
    return _grown(roots, events)


def trees_of(events: Sequence[Event]) -> list[Node]:
    """All trees, by their first events."""
    known = {each.event_id for each in events}
    return _grown([each for each in events if each.causation_id not in known], events)


def _grown(roots: Sequence[Event], events: Iterable[Event]) -> list[Node]:
    """The trees with these roots. An effect is later than its cause, so there is no circle."""
    effects: defaultdict[str, list[Event]] = defaultdict(list)
    for each in sorted(events, key=lambda event: event.position):
        if each.causation_id is not None:
            effects[each.causation_id].append(each)
    trees = [Node(root) for root in roots]
    growing = [(node, trees, 1) for node in trees]
    while growing:
        node, beside, level = growing.pop()
        caused = effects[node.event.event_id]
        found = [Node(each) for each in caused if each.position > node.event.position]
        is_deep = level == MAX_LEVELS
        into = beside if is_deep else node.effects
        into += found
        growing += [(each, into, level if is_deep else level + 1) for each in found]
    return trees

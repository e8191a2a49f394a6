"""How often a process that runs for long looks for cycles of garbage.

By default Python does so every 700 new objects, and now and then goes through all objects that
live: every cached state and every module. A purchase makes thousands of objects, nearly none of
them in cycles, so that this took a quarter of the worker's time.
"""

import gc

NEW_OBJECTS = 50_000
"""How many more objects are made than freed before the young ones are looked through. At some
hundred bytes each, garbage in cycles takes a few megabytes until then."""


def collect_rarely() -> None:
    """Call once the program is loaded: what it consists of is never looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, 10, 10)

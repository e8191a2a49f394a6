"""How often long-running processes search for cyclic garbage.

By default Python does so every 700 new objects, and now and then scans all living objects: every
cached state and every module. A purchase makes thousands of objects, hardly any of them in cycles,
so that this took a quarter of the worker's time.
"""

import gc

NEW_OBJECTS = 50_000
"""How many more objects are made than freed before the young ones are scanned. At some hundred
bytes each, garbage in cycles takes a few megabytes until then."""


def collect_rarely() -> None:
    """Call once the program is loaded: its own objects are never scanned again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, 10, 10)

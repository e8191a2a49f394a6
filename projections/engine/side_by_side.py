"""Works on several read models at a time, each in a process of its own: cheaper than dividing each
(`projections.engine.parts`), where every process has PostgreSQL pass over the log.

The processes are forked, under the same conditions.
"""

import gc
import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from projections.engine.advancing import Registered
from projections.engine.parts import ProcessDied, portable
from projections.engine.replaying import Progress

T = TypeVar("T")

_FORK = get_context("fork")

_REACHED, _DONE = "reached", "done"
"""What a process sends: a position and the one to reach, again and again; then its result."""

Work = Callable[[Registered, Progress], T]
"""Works on a read model. Opens its own connection; what it returns or raises can be pickled."""


def side_by_side(
    models: Sequence[Registered], work: Work[T], count: int, progress: Progress
) -> Iterator[tuple[Registered, T | Exception]]:
    """Work on the read models, `count` at a time. Yields each when it is done, with the result, or
    with the exception raised: ProcessDied if somebody killed its process.

    `progress` gets the sums of what the processes report. They end with the iterator.
    """
    waiting, reached, ends = deque(enumerate(models)), [0] * len(models), [0] * len(models)
    running: dict[connection.Connection, tuple[int, BaseProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < count:
                number, model = waiting.popleft()
                pipe, process = _started(model, work)
                running[pipe] = number, process
            for ready in connection.wait(list(running)):
                assert isinstance(ready, connection.Connection)
                number, process = running[ready]
                try:
                    kind, said = ready.recv()
                except EOFError:
                    name = models[number].projection.name
                    kind, said = _DONE, ProcessDied(f"the process that worked on {name} died")
                if kind == _REACHED:
                    reached[number], ends[number] = said
                    progress(sum(reached), max(ends) * len(models))
                    continue
                del running[ready]
                _end(ready, process)
                yield models[number], said
    finally:
        for pipe, (_, process) in running.items():
            _end(pipe, process)


def _started(model: Registered, work: Work[T]) -> tuple[connection.Connection, BaseProcess]:
    receiving, sending = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_run, args=(model, work, sending, os.getpid()), daemon=True)
    process.start()
    sending.close()  # so that its end shows here
    return receiving, process


def _end(pipe: connection.Connection, process: BaseProcess) -> None:
    pipe.close()
    process.kill()
    process.join()


def _run(model: Registered, work: Work[Any], sending: connection.Connection, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    logging.disable()  # a thread of the parent may have held a lock of it at the fork
    gc.freeze()
    gc.disable()  # short-lived: what a cycle holds goes with the process

    def report(position: int, upto: int) -> None:
        if os.getppid() != parent:  # nobody waits for the result any more
            os._exit(1)
        sending.send((_REACHED, (position, upto)))

    try:
        result = work(model, report)
    except Exception as error:
        result = portable(error)
    with suppress(BrokenPipeError):
        sending.send((_DONE, result))

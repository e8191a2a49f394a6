"""Works on several groups of read models at a time, each in a process of its own: cheaper than
dividing each read model (`projections.engine.parts`), where every process has PostgreSQL pass over
the log.

The processes are forked, under the same conditions.
"""

import gc
import logging
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import msgspec

from kit.children import end_with_parent
from projections.engine.advancing import Registered
from projections.engine.parts import ProcessDied, portable
from projections.engine.replaying import Progress

T = TypeVar("T")

_FORK = get_context("fork")

_REACHED, _DONE, _FAILED = "reached", "done", "failed"
"""What a process sends: a position and the one to reach, again and again; each read model's number
in the group, with its result; at last, if the others failed, why."""

Group = Sequence[Registered]

Work = Callable[[Group, Progress], Iterator[tuple[Registered, T | Exception]]]
"""Works on a group. Opens its own connection; what it yields or raises can be pickled."""


def side_by_side(
    groups: Sequence[Group], work: Work[T], count: int, progress: Progress
) -> Iterator[tuple[Registered, T | Exception]]:
    """Work on the groups, `count` at a time. Yields each read model when it is done, with the
    result, or with the exception raised: ProcessDied if somebody killed its process.

    `progress` gets the sums, over all read models, of what the processes report. They end with the
    iterator.
    """
    waiting, running = deque(groups), dict[connection.Connection, _Running]()
    sizes, reached, ends = [len(group) for group in groups], [0] * len(groups), [0] * len(groups)
    try:
        while waiting or running:
            while waiting and len(running) < count:
                started = _started(len(groups) - len(waiting), waiting.popleft(), work)
                running[started.pipe] = started
            for ready in connection.wait(list(running)):
                assert isinstance(ready, connection.Connection)
                one = running[ready]
                try:
                    kind, said = ready.recv()
                except EOFError:
                    kind, said = _FAILED, ProcessDied("the process that worked on it died")
                if kind == _REACHED:
                    reached[one.number], ends[one.number] = said
                    done = sum(
                        size * position for size, position in zip(sizes, reached, strict=True)
                    )
                    progress(done, max(ends) * sum(sizes))
                elif kind == _DONE:
                    number, result = said
                    yield one.left.pop(number), result
                else:
                    del running[ready]
                    _end(one)
                    yield from ((model, said) for model in one.left.values())
    finally:
        for one in running.values():
            _end(one)


class _Running(msgspec.Struct, frozen=True):
    """A process that works on the group `number`, and the read models that are not done, by their
    numbers in the group."""

    number: int
    pipe: connection.Connection
    process: BaseProcess
    left: dict[int, Registered]


def _started(number: int, group: Group, work: Work[Any]) -> _Running:
    receiving, sending = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_run, args=(group, work, sending), daemon=True)
    process.start()
    sending.close()  # so that its end shows here
    return _Running(number, receiving, process, dict(enumerate(group)))


def _end(one: _Running) -> None:
    one.pipe.close()
    one.process.kill()
    one.process.join()


def _run(group: Group, work: Work[Any], sending: connection.Connection) -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    logging.disable()  # a thread of the parent may have held a lock of it at the fork
    gc.freeze()
    gc.disable()  # short-lived: what a cycle holds goes with the process

    def report(position: int, upto: int) -> None:
        sending.send((_REACHED, (position, upto)))

    numbers = {id(model): number for number, model in enumerate(group)}
    with suppress(BrokenPipeError):
        try:
            for model, result in work(group, report):
                said = portable(result) if isinstance(result, Exception) else result
                sending.send((_DONE, (numbers[id(model)], said)))
        except Exception as error:
            sending.send((_FAILED, portable(error)))

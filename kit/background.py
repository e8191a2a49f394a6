"""Tasks that outlive the request which happened to start them."""

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import TypeVar

Result = TypeVar("Result")


def background_task(work: Coroutine[object, object, Result], name: str) -> "asyncio.Task[Result]":
    """Start a task of the whole process.

    It begins with an empty context: a task inherits the log context of its creator, and the lines
    that it logs for hours would carry the correlation and trace of one request.
    """
    return asyncio.create_task(work, name=name, context=Context())

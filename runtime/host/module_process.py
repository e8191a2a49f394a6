"""Processes that run a module of the program for this one, and end with it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kit.children import command_that_ends_with_parent


@asynccontextmanager
async def module_process(module: str, told: bytes) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `python -m module` with this on its stdin, and its stdout and stderr as pipes. It is
    killed at the end of the block. Raises OSError."""
    process = await asyncio.create_subprocess_exec(
        *command_that_ends_with_parent([sys.executable, "-P", "-m", module]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(told)
        process.stdin.close()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

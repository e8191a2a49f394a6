"""Tasks of the whole process that a request happened to start."""

from structlog.contextvars import bound_contextvars, get_contextvars

from kit.background import background_task


async def _log_context() -> dict[str, object]:
    return dict(get_contextvars())


async def test_a_task_of_the_process_logs_no_ids_of_the_request_that_started_it() -> None:
    with bound_contextvars(correlation_id="of a request"):
        task = background_task(_log_context(), "a follower of the log")
        assert await _log_context() == {"correlation_id": "of a request"}
    assert await task == {}

"""What exceptions keep in memory."""


def drop_tracebacks(error: BaseException) -> None:
    """Drop the tracebacks of an exception that was handled, and of those that led to it.

    A function that keeps an exception in a variable, and raises it, makes a cycle: the exception,
    its traceback, the function's variables. All that they refer to, such as the body of a request,
    would stay in memory until garbage is collected.
    """
    waiting: list[BaseException | None] = [error]
    seen = set[int]()
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            waiting += [each.__cause__, each.__context__]

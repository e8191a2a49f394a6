"""Errors that come in groups, as those of a task group do."""


def first_error(error: BaseException) -> BaseException:
    """The first of a group's errors, however deep it lies; an error that is no group itself."""
    return first_error(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error

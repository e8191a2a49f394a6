"""Whose fault a failure of Elasticsearch is: the index's (missing), one document's, or the
server's.

When in doubt it is the server's: it may pass by itself, and no document suffers for it.
"""

from elasticsearch import ApiError

NOT_FOUND, BAD_REQUEST, TOO_LARGE, CONFLICT = 404, 400, 413, 409

_OF_THE_INDEX = frozenset(
    {"index_closed_exception", "cluster_block_exception", "index_not_found_exception"}
)
"""Refusals that do not depend on what was sent. Source: ElasticsearchException.java of
Elasticsearch."""


def kind_of(answer: object) -> str:
    """Elasticsearch's type of the error in an answer, or in an item of one; '' for anything but its
    own errors."""
    error = answer.get("error") if isinstance(answer, dict) else None
    kind = error.get("type") if isinstance(error, dict) else None
    return kind if isinstance(kind, str) else ""


def is_lost(error: BaseException) -> bool:
    """Whether Elasticsearch itself says that the index does not exist. (A proxy in between also
    answers 404.)"""
    return isinstance(error, ApiError) and says_lost(error.status_code, error.body)


def says_lost(status: int, answer: object) -> bool:
    """As `is_lost`, for an answer or an item of one."""
    return status == NOT_FOUND and kind_of(answer) == "index_not_found_exception"


def says_refused(status: int, answer: object) -> bool:
    """Whether Elasticsearch refuses the content sent: trying again would fail again."""
    kind = kind_of(answer)
    return status == BAD_REQUEST and kind != "" and kind not in _OF_THE_INDEX

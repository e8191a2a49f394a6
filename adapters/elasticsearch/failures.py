"""Whose fault a failure of Elasticsearch is: the index's, which is not there; one document's; or the server's.

What is not known for certain is the server's: it may be over by itself, and nobody's documents suffer for it.
"""

from elasticsearch import ApiError

NOT_FOUND, BAD_REQUEST, TOO_LARGE, CONFLICT = 404, 400, 413, 409

_OF_THE_INDEX = frozenset({"index_closed_exception", "cluster_block_exception", "index_not_found_exception"})
"""Refusals that say nothing of what was sent. Source: ElasticsearchException.java of Elasticsearch."""


def kind_of(answer: object) -> str:
    """What Elasticsearch calls the error in an answer, or in an item of one; '' in what is not its own."""
    error = answer.get("error") if isinstance(answer, dict) else None
    kind = error.get("type") if isinstance(error, dict) else None
    return kind if isinstance(kind, str) else ""


def is_lost(error: BaseException) -> bool:
    """Whether Elasticsearch itself says that there is no such index. (A proxy before it answers 404, too.)"""
    return isinstance(error, ApiError) and says_lost(error.status_code, error.body)


def says_lost(status: int, answer: object) -> bool:
    """As `is_lost`, of an answer or an item of one."""
    return status == NOT_FOUND and kind_of(answer) == "index_not_found_exception"


def says_refused(status: int, answer: object) -> bool:
    """Whether Elasticsearch refuses what was sent for what is in it: trying again would end the same."""
    kind = kind_of(answer)
    return status == BAD_REQUEST and kind != "" and kind not in _OF_THE_INDEX

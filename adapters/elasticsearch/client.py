"""Elasticsearch clients whose calls are bounded: by a time-out from the first byte to the last, by
MAX_ANSWER bytes, and to the server they were sent to (no redirects).

The library's own nodes only bound the wait for the next byte, read any length, and follow
redirects.
"""

import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import urllib3
from elastic_transport import AiohttpHttpNode, NodeConfig, Urllib3HttpNode
from elasticsearch import AsyncElasticsearch, Elasticsearch
from elasticsearch.serializer import JsonSerializer
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from kit.tls import USUAL, Trust

MAX_ANSWER = 32 * 2**20
"""Bytes of an answer. The largest expected one, 200 documents of some 100 kB, fits."""

_PIECE = 2**16


class _Json(JsonSerializer):
    """Reads answers several times as fast as the library's own."""

    def json_loads(self, data: bytes) -> object:
        try:
            return msgspec.json.decode(data)
        except ValueError:  # Python's reader takes more: NaN, half surrogates
            return super().json_loads(data)


_SERIALIZERS = {_Json.mimetype: _Json()}


def open_client(url: str, *, seconds: float, trust: Trust = USUAL) -> Elasticsearch:
    """A client for threads. A call takes at most `seconds`; it is repeated once, only when the
    connection was lost."""
    return Elasticsearch(
        url,
        node_class=BoundedNode,
        request_timeout=seconds,
        max_retries=1,
        retry_on_status=(),
        serializers=_SERIALIZERS,
        ssl_context=_context(url, trust),
    )


def open_async_client(url: str, *, seconds: float, trust: Trust = USUAL) -> AsyncElasticsearch:
    """A client for coroutines; a call is repeated at most once."""
    return AsyncElasticsearch(
        url,
        node_class=BoundedAsyncNode,
        request_timeout=seconds,
        max_retries=1,
        serializers=_SERIALIZERS,
        ssl_context=_context(url, trust),
    )


def _context(url: str, trust: Trust) -> ssl.SSLContext | None:
    return trust.context if url.startswith("https:") else None


class BoundedNode(Urllib3HttpNode):
    """A node over urllib3."""

    def __init__(self, config: NodeConfig) -> None:
        super().__init__(config)
        self.pool: Any = _Pool(self.pool, config.request_timeout)


class BoundedAsyncNode(AiohttpHttpNode):
    """A node over aiohttp, whose time-outs already cover the whole call."""

    def _create_aiohttp_session(self) -> None:
        super()._create_aiohttp_session()
        self.session: Any = _Session(self.session)


class _Answer(msgspec.Struct, frozen=True):
    status: int
    headers: Mapping[str, str]
    data: bytes


class _Pool:
    """A urllib3 pool that reads answers within the bounds."""

    def __init__(self, pool: urllib3.HTTPConnectionPool, seconds: float | None) -> None:
        self._pool = pool
        self._seconds = seconds

    def urlopen(
        self, method: str, url: str, *, timeout: float | None = None, **options: Any
    ) -> _Answer:
        seconds = timeout or self._seconds
        deadline = float("inf") if seconds is None else time.monotonic() + seconds
        response = self._pool.urlopen(
            method, url, timeout=seconds, redirect=False, preload_content=False, **options
        )
        try:
            data = bytearray()
            while piece := response.read1(_PIECE, decode_content=True):
                data += piece
                if len(data) > MAX_ANSWER:
                    raise ProtocolError(f"the answer is larger than {MAX_ANSWER} bytes")
                if time.monotonic() > deadline:
                    raise ReadTimeoutError(
                        self._pool, url, f"the answer takes longer than {seconds} s"
                    )
        except BaseException:
            response.close()  # discard the rest
            raise
        response.release_conn()
        return _Answer(response.status, response.headers, bytes(data))

    def close(self) -> None:
        self._pool.close()


class _Session:
    """An aiohttp session that reads answers within the bounds."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    def request(
        self, method: str, url: str, **options: Any
    ) -> AbstractAsyncContextManager["_Response"]:
        return self._bounded(method, url, options)

    @asynccontextmanager
    async def _bounded(
        self, method: str, url: str, options: dict[str, Any]
    ) -> AsyncIterator["_Response"]:
        async with self._session.request(method, url, allow_redirects=False, **options) as response:
            yield _Response(response)

    async def close(self) -> None:
        await self._session.close()


class _Response:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = response.headers

    async def read(self) -> bytes:
        data = bytearray()
        async for piece in self._response.content.iter_any():
            data += piece
            if len(data) > MAX_ANSWER:
                raise aiohttp.ClientPayloadError(f"the answer is larger than {MAX_ANSWER} bytes")
        return bytes(data)

    async def release(self) -> None:
        self._response.release()

"""Answers of other systems over HTTP, which are as long as they please."""

import aiohttp

MAX_BYTES = 1 << 20
"""More than any answer that we ask for takes: what is longer is no answer."""


async def whole_body(response: aiohttp.ClientResponse) -> bytes:
    """The body. Raises ClientPayloadError for one of more than MAX_BYTES, and closes the connection."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BYTES:
            response.close()
            raise aiohttp.ClientPayloadError(f"an answer of more than {MAX_BYTES} bytes")
    return bytes(body)

"""HTTP answers of other systems, whose length we do not control."""

import aiohttp

MAX_BYTES = 1 << 20
"""More than any answer that we request needs; a longer one is treated as broken."""


async def whole_body(response: aiohttp.ClientResponse) -> bytes:
    """The body. For more than MAX_BYTES, closes the connection and raises ClientPayloadError."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BYTES:
            response.close()
            raise aiohttp.ClientPayloadError(f"an answer of more than {MAX_BYTES} bytes")
    return bytes(body)

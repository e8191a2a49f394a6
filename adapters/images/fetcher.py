"""Images from URLs that people give: public addresses only (`adapters.public_http`), and of limited
size."""

from urllib.parse import urljoin

import aiohttp

from adapters.public_http import AddressRefused, PublicClient
from domain.errors import Invalid
from domain.web_addresses import check_url

REDIRECTS = 3
REFUSED = "image_url_refused"

_HEADERS = {"user-agent": "Ludoteca-Images/1.0", "accept": "image/png, image/jpeg, image/webp"}
_REDIRECT = {301, 302, 303, 307, 308}


class HttpImageFetcher(PublicClient):
    """Implements `ImageFetcher`."""

    RESOLVER = "image-resolver"
    TIMEOUT_SECONDS = 10.0

    async def fetch(self, url: str, max_bytes: int) -> bytes:
        """See `ImageFetcher`. Follows a few redirects, each checked like the first URL."""
        try:
            for _ in range(REDIRECTS + 1):
                found = await self._get(url, max_bytes)
                if isinstance(found, bytes):
                    return found
                url = urljoin(url, found)
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressRefused):
                raise Invalid(REFUSED, "the URL leads to an address that is not public") from error
            raise _unreachable("nobody answers there") from error
        except TimeoutError as error:
            raise _unreachable("it takes too long") from error
        except aiohttp.InvalidURL as error:
            raise Invalid(REFUSED, "the URL cannot be read") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _unreachable("the answer cannot be read") from error
        raise _unreachable(f"it is redirected more than {REDIRECTS} times")

    async def _get(self, url: str, max_bytes: int) -> bytes | str:
        """The content, or the target of a redirect."""
        check_url(url, private_allowed=self._private_allowed, code=REFUSED)
        async with self._http.get(url, headers=_HEADERS, allow_redirects=False) as response:
            location = response.headers.get("location")
            if response.status in _REDIRECT and location:
                return location.partition("#")[0]
            if response.status != 200:
                raise _unreachable(f"the answer is {response.status}")
            return await _body(response, max_bytes)


async def _body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The whole body, counted while it arrives, as the declared length may be wrong."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            response.close()
            raise Invalid("image_too_large", f"an image has at most {max_bytes} bytes")
    return bytes(body)


def _unreachable(why: str) -> Invalid:
    return Invalid("image_unreachable", f"there is no image to be had from this URL: {why}")

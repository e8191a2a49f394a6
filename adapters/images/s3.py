"""Images in a bucket of S3, or of a compatible store. boto3 finds the credentials:
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the machine's role."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import boto3
import certifi
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from commands.ports.images import ImageStoreUnavailable
from kit.circuit import Circuit, CircuitOpen
from kit.tls import USUAL, Trust

T = TypeVar("T")

CONNECT_SECONDS, READ_SECONDS = 2, 10
THREADS = 8

_ABSENT = {"NoSuchKey", "404"}


class ImageBucket:
    """Implements `ImageStore` with an existing bucket. After a few failures in a row S3 is not
    called for a moment."""

    def __init__(self, url: str, trust: Trust = USUAL) -> None:
        """`url`: s3://BUCKET/PREFIX?endpoint=URL&region=NAME; only the bucket is required."""
        parts = urlsplit(url)
        options = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self._bucket = parts.netloc
        self._prefix = parts.path.lstrip("/")
        self._trust = trust  # its file is read at each new connection
        self._s3 = boto3.client(
            "s3",
            endpoint_url=options.get("endpoint"),
            region_name=options.get("region"),
            verify=trust.completed(certifi.where()),
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                max_pool_connections=THREADS,
                retries={"mode": "standard", "max_attempts": 2},
            ),
        )
        self._threads = ThreadPoolExecutor(THREADS, "s3")
        self._circuit = Circuit("s3", _is_down)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._s3.close()

    async def put(self, key: str, content: bytes) -> None:
        """See `ImageStore`."""
        await self._ask(
            lambda: self._s3.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=content)
        )

    async def get(self, key: str) -> bytes | None:
        """See `ImageStore`."""
        return await self._ask(lambda: self._get(key))

    async def exists(self, key: str) -> bool:
        """See `ImageStore`."""
        return await self._ask(lambda: self._exists(key))

    def _get(self, key: str) -> bytes | None:
        with (
            _unless_absent(),
            self._s3.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"] as body,
        ):
            return bytes(body.read())
        return None

    def _exists(self, key: str) -> bool:
        with _unless_absent():
            self._s3.head_object(Bucket=self._bucket, Key=self._prefix + key)
            return True
        return False

    async def _ask(self, question: Callable[[], T]) -> T:
        try:
            async with self._circuit.calling():
                return await asyncio.get_running_loop().run_in_executor(self._threads, question)
        except (BotoCoreError, ClientError, CircuitOpen) as error:
            raise ImageStoreUnavailable(str(error)) from error


@contextmanager
def _unless_absent() -> Iterator[None]:
    """Leave the block without a word when there is nothing under the key."""
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] not in _ABSENT:
            raise


def _is_down(error: BaseException) -> bool:
    """Refusals (no such bucket, access denied) are answers: S3 is there."""
    if isinstance(error, ClientError):
        status: int = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return status == 429 or status >= 500
    return isinstance(error, BotoCoreError)

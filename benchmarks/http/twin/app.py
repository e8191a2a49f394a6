"""The twin as an application: `python -m benchmarks.http.twin.app URL KEY_FILE PORT` serves it."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from joserfc.jwk import OKPKey

from benchmarks.http.twin import carts, games, orders, wallets
from benchmarks.http.twin.common import new_pool
from runtime.host.listening import bound_sockets


def create_app(url: str, key: OKPKey) -> FastAPI:
    """The twin over a database with its tables; `key` signs access tokens."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with new_pool(url) as app.state.pool:
            yield

    app = FastAPI(lifespan=lifespan)
    app.state.key = key
    for module in (games, orders, carts, wallets):
        app.include_router(module.router)
    return app


def main() -> None:
    """Serve the twin."""
    url, key_file, port = sys.argv[1:]
    app = create_app(url, OKPKey.import_key(Path(key_file).read_bytes()))
    config = uvicorn.Config(app, access_log=False, log_level="warning")
    # as ours, so that several of them share the port in the same way
    uvicorn.Server(config).run(bound_sockets("127.0.0.1", int(port), shared=True))


if __name__ == "__main__":
    main()

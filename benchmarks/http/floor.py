"""The cost of FastAPI and Starlette alone: `python -m benchmarks.http.floor KIND PORT`."""

import sys

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp

HELLO = {"hello": "world"}


def fastapi_app() -> ASGIApp:
    """One route that answers a dictionary."""
    app = FastAPI()

    @app.get("/")
    async def hello() -> dict[str, str]:
        return HELLO

    return app


def starlette_app() -> ASGIApp:
    """The same without FastAPI."""

    async def hello(_: Request) -> JSONResponse:
        return JSONResponse(HELLO)

    return Starlette(routes=[Route("/", hello)])


APPS = {"FastAPI": fastapi_app, "Starlette": starlette_app}


def main() -> None:
    """Serve one of them on a port."""
    kind, port = sys.argv[1:]
    uvicorn.run(APPS[kind](), port=int(port), access_log=False, log_level="warning")


if __name__ == "__main__":
    main()

"""The arguments of an endpoint and of its dependencies, by a plan that is made once per route.

FastAPI works out for each request what each dependency takes. A plan gives the same arguments for a
request that is right. For one that is not, and for an endpoint that takes what a plan does not know
(a form, a cookie, a generator), FastAPI's own handler is asked, so that it alone words the errors.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from fastapi import HTTPException, params
from fastapi._compat import ModelField, field_annotation_is_sequence
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

Call = Callable[..., Awaitable[Any]]

_IMMUTABLE = (type(None), bool, int, float, str, frozenset, tuple)


class Unplanned(Exception):
    """The plan cannot answer, so FastAPI's handler has to: a value is wrong or missing, or of an
    unusual kind."""


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    key: str
    field: ModelField
    required: bool

    def read(self, value: object) -> Any:
        """The value as its type has it. Raises Unplanned."""
        found, errors = self.field.validate(value, {}, loc=(self.key,))
        if errors:
            raise Unplanned
        return found


@dataclass(frozen=True, slots=True)
class _Step:
    """A call of a dependency, or of the endpoint: where each of its arguments comes from."""

    call: Call
    path: Sequence[_Parameter]
    query: Sequence[_Parameter]
    headers: Sequence[_Parameter]
    body: _Parameter | None
    defaults: Mapping[str, object]
    results: Sequence[tuple[str, int]]
    """Arguments that are results of earlier steps."""
    request: str | None


class Plan:
    """Calls an endpoint: its dependencies first, each once."""

    def __init__(self, endpoint: Dependant) -> None:
        """Raises Unplanned for an endpoint of another kind."""
        self._steps: list[_Step] = []
        self._places: dict[Callable[..., Any], int] = {}
        self._add(endpoint)
        if not _returns_response(endpoint.call):
            raise Unplanned
        headers = [each for step in self._steps for each in step.headers]
        self._headers = frozenset(each.key for each in headers)
        self._lists = frozenset(each.key for each in headers if _is_list(each.field))
        self._takes_body = self._steps[-1].body is not None

    async def call(self, request: Request) -> Response:
        """The endpoint's answer. Raises Unplanned before the endpoint is called; whatever it and
        its dependencies raise."""
        body = await _body(request) if self._takes_body else None
        path, headers = request.path_params, self._sent(request)
        query = request.query_params if request.scope["query_string"] else {}
        results: list[Any] = []
        for step in self._steps:
            values = dict(step.defaults)
            for each in step.path:
                values[each.name] = each.read(path[each.key])
            _read(step.query, query, values)
            _read(step.headers, headers, values)
            if step.body is not None:
                values[step.body.name] = step.body.read(body)
            for name, place in step.results:
                values[name] = results[place]
            if step.request is not None:
                values[step.request] = request
            results.append(await step.call(**values))
        answer: Response = results[-1]
        return answer

    def _sent(self, request: Request) -> Mapping[str, object]:
        """The wanted headers: of one that is a list all values, of others the first."""
        sent = request.headers
        found: dict[str, object] = {}
        for name, _ in request.scope["headers"]:
            key = name.decode("latin-1")
            if key in self._headers:
                found[key] = sent.getlist(key) if key in self._lists else sent[key]
        return found

    def _add(self, dependant: Dependant) -> int:
        """Lay out the steps of a dependency, unless they are there; returns the place of its
        result."""
        call = dependant.call
        if call is None or not _is_usual(dependant):
            raise Unplanned
        if call in self._places and dependant.use_cache:
            return self._places[call]
        results = [(each.name, self._add(each)) for each in dependant.dependencies]
        parameters = [*dependant.path_params, *dependant.query_params, *dependant.header_params]
        body = next(iter(_parameters(dependant.body_params)), None)
        self._steps.append(
            _Step(
                call,
                _parameters(dependant.path_params),
                _parameters(dependant.query_params),
                _parameters(dependant.header_params),
                body,
                {each.name: _default(each) for each in parameters if not _is_required(each)},
                [(name, place) for name, place in results if name is not None],
                dependant.request_param_name,
            )
        )
        self._places[call] = len(self._steps) - 1
        return self._places[call]


def _read(
    parameters: Sequence[_Parameter], sent: Mapping[str, Any], values: dict[str, object]
) -> None:
    for each in parameters:
        value = sent.get(each.key)
        if value is not None:
            values[each.name] = each.read(value)
        elif each.required:
            raise Unplanned


async def _body(request: Request) -> Any:
    """The JSON of a body. Raises Unplanned, HTTPException."""
    try:
        if await request.body():
            return await request.json()
    except HTTPException:
        raise
    except Exception as error:
        raise Unplanned from error
    raise Unplanned


def _parameters(fields: Sequence[ModelField]) -> list[_Parameter]:
    return [
        _Parameter(field.name, _key(field), field, required=_is_required(field)) for field in fields
    ]


def _key(field: ModelField) -> str:
    name = field.validation_alias or field.alias
    return name.lower() if isinstance(field.field_info, params.Header) else name


def _is_required(field: ModelField) -> bool:
    return field.field_info.is_required()


def _default(field: ModelField) -> object:
    default: object = field.get_default()
    if not isinstance(default, _IMMUTABLE):
        raise Unplanned
    return default


# -- the usual kinds -------------------------------------------------------------------------------


def _is_usual(dependant: Dependant) -> bool:
    others = (
        dependant.cookie_params,
        dependant.websocket_param_name,
        dependant.http_connection_param_name,
        dependant.response_param_name,
        dependant.background_tasks_param_name,
        dependant.security_scopes_param_name,
        dependant.own_oauth_scopes,
        dependant.concurrency,
    )
    single = [*dependant.path_params, *dependant.query_params]
    fields = [*single, *dependant.header_params]
    return (
        not any(others)
        and _is_coroutine(dependant.call)
        and not any(_is_list(field) for field in single)
        and not any(_is_model(field) or field.field_info.validate_default for field in fields)
        and len(dependant.body_params) <= 1
        and all(_is_json(field) for field in dependant.body_params)
    )


def _is_list(field: ModelField) -> bool:
    return bool(field_annotation_is_sequence(field.field_info.annotation))


def _is_model(field: ModelField) -> bool:
    annotation = field.field_info.annotation
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_json(field: ModelField) -> bool:
    """Whether it is the whole of a JSON body, and has to be there."""
    info = field.field_info
    return (
        not isinstance(info, params.Form)
        and not getattr(info, "embed", None)
        and _is_required(field)
    )


def _is_coroutine(call: Callable[..., Any] | None) -> bool:
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(
        getattr(call, "__call__", None)  # noqa: B004 - an object that is called
    )


def _returns_response(call: Callable[..., Any] | None) -> bool:
    if not inspect.isfunction(call):
        return False
    kind = get_type_hints(call).get("return")
    return isinstance(kind, type) and issubclass(kind, Response)

"""Generate the documents about events: docs/events.md for people, docs/asyncapi.json for tools.

Run `python -m runtime.events.docs` after changing an event. A test fails while they are out of
date. When a release goes out, `python -m runtime.events.docs --release` also keeps the shapes of
its events, which `ludoteca events check` compares later ones with.
"""

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from commands import aggregates
from domain.events import EVENTS, UPCASTERS, Event
from eventstore.database.release import RELEASE
from runtime.events.shapes import EventShapes, decode, encode, shapes_of

DOCS = Path(__file__).parents[2] / "docs"
TITLES = {
    "user": "Accounts",
    "claim": "Claims",
    "game": "Games",
    "inventory": "Stock",
    "cart": "Carts",
    "order": "Orders",
    "shipment": "Shipments",
    "payment": "Payments",
    "notice": "Notices of the provider and of carriers",
    "wallet": "Wallets",
    "transaction": "Transactions",
    "ledger": "The ledger",
    "library": "Libraries",
    "notification": "Notices",
    "webhook_endpoint": "Webhook endpoints",
    "webhook_index": "Webhook endpoints of a seller",
    "webhook": "Webhook deliveries",
    "amendment": "Amendments of the log",
    "audit": "Findings of the audit",
    "disclosure": "Disclosures of personal data",
    "operator": "Acts of operators",
    "alert": "Alerts",
}
"""The headings in order, by the first word of an event's name. Events with another first word come
last, under that word."""

_LOCK = "🔒"


def markdown() -> str:
    """The text of docs/events.md."""
    lines = [
        "# Events",
        "",
        (
            "Made from the code by `python -m runtime.events.docs`. Wire names are fixed for ever."
            " A new shape is a new"
        ),
        "version, and old versions remain readable for ever. `?` marks a field that may be absent,",
        f"{_LOCK} one that is encrypted under the person's own key.",
        "",
        (
            "Each event also has an envelope: `event_id`, `position`, `stream_id`, `version`,"
            " `name`, `recorded_at`,"
        ),
        (
            "`occurred_at` (the time of the decision, by which events are dated; on the bus"
            " `time`), `actor`,"
        ),
        (
            "`correlation_id`, `causation_id`, `traceparent`. On the bus in RabbitMQ (topic"
            " exchange `ludoteca.events`)"
        ),
        (
            "it is a CloudEvents 1.0 JSON message whose routing key is the event's name;"
            " `asyncapi.json` beside this"
        ),
        (
            "page has the schemas. In Kafka it is a CloudEvent in binary mode: the payload with the"
            " envelope in headers,"
        ),
        "and the stream's id as its key.",
    ]
    contexts = {name.split(".")[0] for name in EVENTS}
    for context in [*TITLES, *sorted(contexts - TITLES.keys())]:
        title = TITLES.get(context, context.replace("_", " ").capitalize())
        lines += ["", f"## {title}", "", "| event | payload | meaning |", "|---|---|---|"]
        for name, cls in sorted(EVENTS.items()):
            if name.split(".")[0] == context:
                lines.append(f"| `{name}` | {_fields(cls)} | {_meaning(cls)} |")
    lines += ["", "## Old shapes", "", "| event | is read as |", "|---|---|"]
    lines += [f"| `{old}` | `{new}` |" for old, (new, _) in UPCASTERS.items()]
    return "\n".join(lines) + "\n"


def _fields(cls: type[Event]) -> str:
    entries = []
    for field in msgspec.structs.fields(cls):
        mark = "" if field.required else "?"
        entries.append(f"{field.name}{mark}{' ' + _LOCK if _is_personal(cls, field.name) else ''}")
    return ", ".join(entries) or "–"


def _is_personal(cls: type[Event], name: str) -> bool:
    hint = inspect.get_annotations(cls, eval_str=True).get(name)
    return "'personal': True" in repr(hint)


def _meaning(cls: type[Event]) -> str:
    text = cls.__dict__.get("__doc__") or ""
    return " ".join(text.split()).replace("|", "\\|")


def asyncapi() -> dict[str, Any]:
    """The content of docs/asyncapi.json: a channel for each event on the exchange, with the schema
    of its CloudEvent."""
    names = sorted(EVENTS)  # independent of the order of imports
    schemas, components = msgspec.json.schema_components(
        [EVENTS[name] for name in names], ref_template="#/components/schemas/{name}"
    )
    for component in components.values():
        if "description" in component:  # the versions of msgspec do not agree about indentation
            component["description"] = inspect.cleandoc(component["description"])
    channels, operations = {}, {}
    for name, schema in zip(names, schemas, strict=True):
        key = name.replace(".", "_")
        channels[key] = {
            "address": name,
            "messages": {key: {"$ref": f"#/components/messages/{key}"}},
        }
        operations[f"receive_{key}"] = {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{key}"},
        }
        components[f"message_{key}"] = {
            "allOf": [
                {"$ref": "#/components/schemas/CloudEvent"},
                {"type": "object", "properties": {"type": {"const": name}, "data": schema}},
            ]
        }
    components["CloudEvent"] = _CLOUD_EVENT
    messages = {
        name.replace(".", "_"): {
            "name": name,
            "contentType": "application/cloudevents+json",
            "payload": {"$ref": f"#/components/schemas/message_{name.replace('.', '_')}"},
        }
        for name in names
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Ludoteca events",
            "version": "1.0.0",
            "description": (
                "Topic exchange `ludoteca.events` of RabbitMQ; in Kafka the topic of"
                " LUDOTECA_KAFKA_TOPIC, with the attributes in headers."
            ),
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": components},
    }


_CLOUD_EVENT = {
    "type": "object",
    "required": [
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "time",
        "datacontenttype",
        "data",
        "position",
    ],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "format": "uuid"},
        "source": {"const": "ludoteca"},
        "type": {"type": "string"},
        "subject": {"type": "string", "format": "uuid", "description": "The stream."},
        "time": {"type": "string", "format": "date-time", "description": "When it occurred."},
        "datacontenttype": {"const": "application/json"},
        "position": {"type": "integer", "description": "Place in the whole log."},
        "streamversion": {"type": "integer"},
        "actor": {"type": "string"},
        "correlationid": {"type": "string", "format": "uuid"},
        "causationid": {"type": "string", "format": "uuid"},
        "traceparent": {"type": "string"},
        "epoch": {
            "type": "string",
            "description": (
                "The stretch of the log's history. When it changes, the log may have gone back: an"
                " event that was received at this position or beyond it, in another epoch, never"
                " happened."
            ),
        },
        "data": {"type": "object"},
    },
}


def files() -> dict[Path, str]:
    """The documents' expected contents, by path."""
    assert aggregates.ALL  # importing them registers every event
    return {
        DOCS / "events.md": markdown(),
        DOCS / "asyncapi.json": json.dumps(asyncapi(), indent=1, ensure_ascii=False) + "\n",
    }


def shapes() -> EventShapes:
    """The shapes of this release's events."""
    assert aggregates.ALL  # importing them registers every event
    return shapes_of(RELEASE, EVENTS, UPCASTERS)


def kept_shapes() -> dict[int, EventShapes]:
    """The shapes of the events of earlier releases, by release number."""
    kept = [decode(path.read_bytes()) for path in DOCS.glob("events-release-*.json")]
    return {each.release: each for each in kept}


def keep_shapes() -> None:
    """Write the file that keeps the shapes of this release's events."""
    (DOCS / f"events-release-{RELEASE}.json").write_text(encode(shapes()), encoding="utf-8")


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
    if sys.argv[1:] == ["--release"]:
        keep_shapes()

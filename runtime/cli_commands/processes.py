"""`ludoteca run`, and the processes that it consists of."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands.failures import Failure
from runtime.output.console import Code

if TYPE_CHECKING:
    from runtime.settings import Settings

Number = Annotated[int, typer.Option(hidden=True)]
"""Which of several processes of its kind this is, of those that `run` has started. 0: the only
one."""

Memory = Annotated[int, typer.Option(hidden=True)]
"""The inherited descriptor of the memory that processes with numbers share."""


def run() -> None:
    """Run the whole shop on this machine until Ctrl-C. Prints where to click when everything is
    ready.

    Starts a PostgreSQL of its own in LUDOTECA_HOME (unless LUDOTECA_DATABASE_URL names one), and as
    separate processes the API, the projector, the worker, and the simulated payment provider,
    fiscal operator and carrier; with LUDOTECA_RABBITMQ_URL or LUDOTECA_KAFKA_URL also the relay,
    with LUDOTECA_KURRENTDB_URL the mirror. To use several cores, set LUDOTECA_API_PROCESSES,
    LUDOTECA_WORKER_PROCESSES and LUDOTECA_PROJECTOR_PROCESSES.

    [bold]Examples[/bold]
      ludoteca run
      LUDOTECA_PORT=8080 LUDOTECA_HOME=/tmp/shop ludoteca run
    """
    from runtime.output.logs import configure
    from runtime.settings import Settings
    from runtime.supervision.supervisor import run

    settings = Settings()
    configure(settings, process="run")
    raise typer.Exit(run(settings))


def api(number: Number = 0, memory: Memory = -1) -> None:
    """Serve only the HTTP API. Any number of these processes can use the same database, on one host
    or on many.

    [bold]Example[/bold]
      LUDOTECA_DATABASE_URL=postgresql://… LUDOTECA_HOST=0.0.0.0 ludoteca api
    """
    settings, _ = _prepared("api", lambda found: (found.host, found.port, "LUDOTECA_PORT"), number)
    from runtime.processes.running import run_until_stopped
    from runtime.processes.servers import serve_api
    from runtime.processes.siblings import siblings_of

    siblings = siblings_of(number, memory) if number else None
    run_until_stopped(serve_api(settings, siblings))


def projector(number: Number = 0) -> None:
    """Keep the read models up to date with the log. One process leads each read model; others stand
    by, and take over when it dies.

    [bold]Example[/bold]
      LUDOTECA_DATABASE_URL=postgresql://… ludoteca projector
    """
    settings, url = _prepared("projector", number=number)
    from runtime.processes.projector import run_projector

    run_projector(settings, url)


def worker(number: Number = 0) -> None:
    """React to events, take payments, send notifications, report fiscal receipts, and fire
    deadlines.

    Several workers can run: they share the jobs of the queues, and each reactor and the deadlines
    have one leader.

    [bold]Example[/bold]
      LUDOTECA_DATABASE_URL=postgresql://… LUDOTECA_WORKERS=32 ludoteca worker
    """
    settings, _ = _prepared("worker", number=number)
    from runtime.processes.running import run_until_stopped
    from runtime.processes.worker import work

    run_until_stopped(work(settings))


def provider() -> None:
    """Serve the simulated payment provider, with its 3-D Secure page and its signed webhooks.

    [bold]Example[/bold]
      LUDOTECA_DATABASE_URL=postgresql://… LUDOTECA_PROVIDER_PORT=9000 ludoteca provider
    """
    settings, _ = _prepared(
        "provider",
        lambda found: (found.provider_host, found.provider_listens_on, "LUDOTECA_PROVIDER_PORT"),
    )
    from runtime.processes.running import run_until_stopped
    from runtime.processes.servers import serve_provider

    run_until_stopped(serve_provider(settings))


def fiscal() -> None:
    """Serve the simulated fiscal operator, which keeps books of the sellers' receipts.

    [bold]Example[/bold]
      LUDOTECA_FISCAL_PORT=10000 ludoteca fiscal
    """
    from runtime.host.home import open_home
    from runtime.host.listening import check_port
    from runtime.output.logs import begin_counting, configure
    from runtime.processes.metrics_server import name_build, show_metrics
    from runtime.processes.running import run_until_stopped
    from runtime.processes.servers import serve_fiscal
    from runtime.processes.tracing import start_tracing
    from runtime.settings import Settings

    settings = Settings()
    configure(settings, process="fiscal")
    name_build("fiscal")
    show_metrics(settings)
    start_tracing(settings, "fiscal")
    check_port(settings.provider_host, settings.fiscal_listens_on, "LUDOTECA_FISCAL_PORT")
    open_home(settings.home)
    begin_counting(settings, "fiscal")
    run_until_stopped(serve_fiscal(settings))


def carrier() -> None:
    """Serve the simulated carrier, with its page to move parcels and its signed notices.

    [bold]Example[/bold]
      LUDOTECA_DATABASE_URL=postgresql://… LUDOTECA_CARRIER_PORT=11000 ludoteca carrier
    """
    settings, _ = _prepared(
        "carrier",
        lambda found: (found.provider_host, found.carrier_listens_on, "LUDOTECA_CARRIER_PORT"),
    )
    from runtime.processes.running import run_until_stopped
    from runtime.processes.servers import serve_carrier

    run_until_stopped(serve_carrier(settings))


def relay() -> None:
    """Publish the log, in order: to RabbitMQ, on the topic exchange `ludoteca.events`, where the
    routing key is the event's name; to Kafka, where the key is the stream's id.

    [bold]Examples[/bold]
      LUDOTECA_RABBITMQ_URL=amqp://guest:guest@localhost/ ludoteca relay
      LUDOTECA_KAFKA_URL=kafka://localhost:9092 ludoteca relay
    """
    from runtime.settings import Settings

    if not Settings().relayed:
        raise Failure(
            "the relay publishes to RabbitMQ or Kafka: set LUDOTECA_RABBITMQ_URL or"
            " LUDOTECA_KAFKA_URL to say which",
            Code.USAGE,
        )
    settings, _ = _prepared("relay")
    from runtime.processes.relay import relay
    from runtime.processes.running import run_until_stopped

    run_until_stopped(relay(settings))


def mirror() -> None:
    """Copy the log of record, in KurrentDB, into PostgreSQL, from which everything else reads. One
    process leads, others stand by.

    [bold]Example[/bold]
      LUDOTECA_KURRENTDB_URL=kurrentdb://localhost:2113?Tls=false ludoteca mirror
    """
    from runtime.settings import Settings

    if not Settings().mirrored:
        raise Failure(
            "the mirror follows KurrentDB: set LUDOTECA_KURRENTDB_URL to say where it is",
            Code.USAGE,
        )
    settings, _ = _prepared("mirror")
    from runtime.processes.mirror import mirror
    from runtime.processes.running import run_until_stopped

    run_until_stopped(mirror(settings))


def _prepared(
    process: str,
    listens_on: "Callable[[Settings], tuple[str, int, str]] | None" = None,
    number: int = 0,
) -> "tuple[Settings, str]":
    """The settings, and the URL of a database that answers and has this program's schema.
    `listens_on` returns the host and port of a server, and the setting of its port; servers with a
    `number` share it."""
    from runtime.database.instance import running_database_url
    from runtime.host.children import numbered
    from runtime.host.home import open_home
    from runtime.host.listening import check_port
    from runtime.output.logs import begin_counting, configure
    from runtime.processes.certificates import check_certificate
    from runtime.processes.metrics_server import name_build, show_metrics
    from runtime.processes.tracing import start_tracing
    from runtime.release.migrate import prepare_database
    from runtime.settings import Settings
    from runtime.wiring.log_of_record import check_log_of_record

    settings = Settings()
    name = numbered(process, number)
    configure(settings, process=name)
    open_home(settings.home)
    begin_counting(settings, name)
    name_build(process)
    if process != "api":
        show_metrics(settings)
    start_tracing(settings, process)
    if process == "api":
        check_certificate(settings)
    url = running_database_url(settings)
    if listens_on:
        check_port(*listens_on(settings), shared=number > 0)
    prepare_database(url, settings)
    check_log_of_record(settings, url)
    return settings, url

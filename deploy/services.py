"""Find or start what the tests need beside Python: RabbitMQ, Kafka, Elasticsearch,
stripe-mock; or install it, for tests that start it themselves: libfaketime, Patroni with etcd and
HAProxy, pgbouncer, Prometheus, Alertmanager, Chromium.

    python deploy/services.py up|status|down

`up` reuses what already answers, starts what does not, and waits until it does; it leaves 0 when
all are up and 1 otherwise, with the reason on the line of the one that is missing. Where they are
is kept in `services.json` in the cache directory. To use servers of your own, set
LUDOTECA_TEST_RABBITMQ_URL, LUDOTECA_TEST_RABBITMQ_MANAGEMENT_URL, LUDOTECA_TEST_KAFKA_URL,
LUDOTECA_TEST_ELASTICSEARCH_URL and LUDOTECA_TEST_STRIPE_MOCK_URL.

Standard library only, so that it runs before anything is installed. How each server is had is told
in `servers/`.
"""

import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from deploy.servers.alertmanager import (
    alertmanager_program,
    check_alertmanager,
    install_alertmanager,
    leave_alertmanager,
)
from deploy.servers.chromium import (
    check_chromium,
    chromium_program,
    install_chromium,
    leave_chromium,
)
from deploy.servers.common import Missing, http, one_at_a_time
from deploy.servers.elasticsearch import (
    check_elasticsearch,
    elasticsearch_url,
    start_elasticsearch,
    stop_elasticsearch,
)
from deploy.servers.faketime import (
    check_faketime,
    faketime_library,
    install_faketime,
    leave_faketime,
)
from deploy.servers.kafka import check_kafka, kafka_url, start_kafka, stop_kafka
from deploy.servers.patroni import (
    check_patroni,
    install_patroni,
    leave_patroni,
    where_patroni_is,
)
from deploy.servers.pgbouncer import (
    check_pgbouncer,
    install_pgbouncer,
    leave_pgbouncer,
    pgbouncer_program,
)
from deploy.servers.prometheus import (
    check_prometheus,
    install_prometheus,
    leave_prometheus,
    prometheus_folder,
)
from deploy.servers.rabbitmq import (
    check_rabbitmq,
    rabbitmq_management_url,
    rabbitmq_url,
    start_rabbitmq,
    stop_rabbitmq,
)
from deploy.servers.stripe_mock import (
    STRIPE_TEST_KEY,
    check_stripe_mock,
    start_stripe_mock,
    stop_stripe_mock,
    stripe_mock_url,
)

__all__ = [
    "STRIPE_TEST_KEY",
    "Missing",
    "alertmanager_program",
    "check_alertmanager",
    "check_chromium",
    "check_elasticsearch",
    "check_faketime",
    "check_kafka",
    "check_patroni",
    "check_pgbouncer",
    "check_prometheus",
    "check_rabbitmq",
    "check_stripe_mock",
    "chromium_program",
    "elasticsearch_url",
    "faketime_library",
    "http",
    "kafka_url",
    "pgbouncer_program",
    "prometheus_folder",
    "rabbitmq_management_url",
    "rabbitmq_url",
    "stripe_mock_url",
]

URLS: dict[str, Callable[[], str]] = {
    "RabbitMQ": rabbitmq_url,
    "Kafka": kafka_url,
    "Elasticsearch": elasticsearch_url,
    "stripe-mock": stripe_mock_url,
    "faketime": faketime_library,
    "Patroni": where_patroni_is,
    "pgbouncer": pgbouncer_program,
    "Prometheus": prometheus_folder,
    "Alertmanager": alertmanager_program,
    "Chromium": chromium_program,
}
COMMANDS: dict[str, dict[str, Callable[[], None]]] = {
    "up": {
        "RabbitMQ": start_rabbitmq,
        "Kafka": start_kafka,
        "Elasticsearch": start_elasticsearch,
        "stripe-mock": start_stripe_mock,
        "faketime": install_faketime,
        "Patroni": install_patroni,
        "pgbouncer": install_pgbouncer,
        "Prometheus": install_prometheus,
        "Alertmanager": install_alertmanager,
        "Chromium": install_chromium,
    },
    "status": {
        "RabbitMQ": check_rabbitmq,
        "Kafka": check_kafka,
        "Elasticsearch": check_elasticsearch,
        "stripe-mock": check_stripe_mock,
        "faketime": check_faketime,
        "Patroni": check_patroni,
        "pgbouncer": check_pgbouncer,
        "Prometheus": check_prometheus,
        "Alertmanager": check_alertmanager,
        "Chromium": check_chromium,
    },
    "down": {
        "RabbitMQ": stop_rabbitmq,
        "Kafka": stop_kafka,
        "Elasticsearch": stop_elasticsearch,
        "stripe-mock": stop_stripe_mock,
        "faketime": leave_faketime,
        "Patroni": leave_patroni,
        "pgbouncer": leave_pgbouncer,
        "Prometheus": leave_prometheus,
        "Alertmanager": leave_alertmanager,
        "Chromium": leave_chromium,
    },
}


def main(arguments: list[str]) -> int:
    """Run one of `up`, `status` and `down`; returns the exit code."""
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        print(__doc__.split("\n\n")[1].strip() if __doc__ else "", file=sys.stderr)
        return 2
    (command,) = arguments
    with one_at_a_time():
        done = [_done(name, act, command) for name, act in COMMANDS[command].items()]
    return 0 if all(done) else 1


def _done(name: str, act: Callable[[], None], command: str) -> bool:
    try:
        act()
    except Missing as missing:
        print(f"{name}: missing: {missing}", flush=True)
        return False
    print(f"{name}: {'stopped' if command == 'down' else f'up at {URLS[name]()}'}", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

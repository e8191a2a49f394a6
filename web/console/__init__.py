"""The operator's console. Each module has a `router`."""

from collections.abc import Sequence

from web.console import (
    acts,
    alerts,
    amendments,
    bundles,
    catalog,
    dead_letters,
    differences,
    finding,
    ledger,
    log,
    overview,
    people,
    projections,
    proofs,
    quarantine,
    rows,
    self_audit,
    settings,
    stories,
    streams,
    tasks,
    why,
)
from web.routing import Router

ROUTERS: Sequence[Router] = (
    overview.router,
    finding.router,
    log.router,
    streams.router,
    rows.router,
    stories.router,
    why.router,
    projections.router,
    quarantine.router,
    amendments.router,
    dead_letters.router,
    tasks.router,
    proofs.router,
    bundles.router,
    differences.router,
    ledger.router,
    people.router,
    acts.router,
    alerts.router,
    self_audit.router,
    catalog.router,
    settings.router,
)

"""Everything that a process keeps in memory is either dropped when the log goes back, or does not
derive from the log.

A class that begins to keep something must be entered here, and its author states which of the two
it is.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FOLDERS = ("adapters", "api", "commands", "eventstore", "projections", "queries", "runtime", "web")
CONTAINERS = {
    "dict",
    "set",
    "list",
    "OrderedDict",
    "defaultdict",
    "deque",
    "WeakKeyDictionary",
    "_Remembered",
    "Rows",
}

REGISTERED = {
    "adapters.kurrentdb.kurrent_log.KurrentLog",
    "adapters.queues.postgres.PostgresQueue",
    "commands.accounts.session_ends.SessionEnds",
    "commands.reactors.webhooks._SellersWithoutEndpoint",
    "eventstore.amendments.KnownAmendments",
    "eventstore.repository.Repository",
    "eventstore.append.writer.GroupCommitWriter",
    "eventstore.consumers.reactor_runner.ReactorRunner",
    "eventstore.consumers.stream_watcher.StreamFollower",
    "queries.catalog.game_pages.GamePages",
    "queries.catalog.game_tail.GameTail",
    "queries.engine.own_writes.OwnWrites",
    "runtime.self_audit.moment.Followed",
}
"""Registered with the process's History, and dropped when it changes."""

ENDS_WITH_ANOTHER = {
    "api.kept_answers.KeptAnswers",  # uses no answer of another generation
    "queries.catalog.region_currencies.RegionCurrencies",  # uses no currency of another generation
    # counts documents of an index, whatever the log's history
    "adapters.elasticsearch.documents.ElasticsearchDocuments",
    # takes another name, so that its content is void
    "adapters.queues.postgres_consumer.Consumer",
    # which begins anew where KurrentDB does not have what was copied last
    "adapters.kurrentdb.following.Inbox",
    "adapters.kurrentdb.mirror._Copying",
    "adapters.kurrentdb.new_append.NewAppend",  # within one append
    "commands.accounts.session_ends._Remembered",
    "eventstore.append.batch.Batch",  # within one statement
    "eventstore.append.batch.Touched",
    "eventstore.append.pending.Pending",  # refused by the writer
    "eventstore.append.pipeline.Pipeline",  # closed by the writer
    "eventstore.gathering.Gatherer",  # asks anew each time; its caller checks the history
    "eventstore.states_ahead.StatesAhead",  # emptied by the repository
    "eventstore.unit_of_work.UnitOfWork",  # decided again
    "projections.engine.advancing.Subscriber",  # created at each lead; released within a second
    "projections.engine.lanes.Lane",
    "projections.projection.Rows",
    "eventstore.consumers.reacting.Lead",
    "queries.live.subscriptions.Listener",  # notified, and closed
    "queries.live.subscriptions.LiveStatus",
    "queries.live.subscriptions._Person",
    "queries.engine.positions.PositionWaiter",
}
"""Ends, or is emptied, with something that is registered."""

SAYS_NOTHING_OF_THE_LOG = {
    "adapters.notices.sender.NoticeSender",  # another program
    "adapters.queues.postgres_listener.JobListener",  # consumers, which ask the database
    "api.arguments.Plan",  # of an endpoint
    "api.idempotency.StoredAnswers",  # requests under way
    "api.middleware.metrics.DroppedLines",  # counts of processes' outputs
    "api.route_table.RouteTable",
    "api.tokens.Tokens",  # checks their sessions each time
    "api.overview.Overviews",  # counters of the last seconds; those that went back are dropped
    "commands.deadlines.DeadlineRunner",  # counts; due deadlines are fired in any case
    "commands.transactions.TransactionCommands",  # tasks under way, which decide again
    "eventstore.database.dependents.Dependents",  # tasks under way
    "eventstore.database.doubts.Doubts",  # connections
    "eventstore.database.watch.DatabaseWatch",  # connections, and who waits
    "eventstore.history.History",
    "eventstore.master_keys.Keyring",  # keys by their ids
    "eventstore.memory.Memory",  # is the log
    "eventstore.precedence.Precedence",  # who gives way to whom, for a tenth of a second
    "eventstore.turns.Turn",
    "eventstore.turns.Turns",  # decisions that wait
    # read again when their number changes, which going back does not hide for long
    "eventstore.consumers.newer_events.UnknownNames",
    "eventstore.consumers.stream_watcher.StreamFollower",  # who waits
    "projections.engine.folding.UndoableRows",  # within one page
    "commands.workers.notifications._MailsOfHour",  # mails that went, whatever the log says
    "projections.engine.tables.PostgresTable",  # statements, by names of tables
    "eventstore.proofs.walking.Walk",  # within one verification
    "queries.search.highlight.Highlighter",  # within one search
    "projections.engine.folding._Folding",
    "eventstore.consumers.leadership.Challenger",  # other leaders
    "projections.engine.replaying.HeldRows",  # within one command
    "projections.engine.replaying.Replay",
    "projections.changes.WatchedFold",
    "runtime.processes.alert_watch.AlertWatch",  # since when it sees what it sees now
    "runtime.output.request_log.RequestLog",  # lines of requests, for a tenth of a second
    "queries.engine.own_writes.ReadYourWrites",  # within one request
    "queries.audit.differences._Noted",
    "queries.audit.differences._Row",
    "queries.engine.past.PastTables",  # when tables were used; each query checks whose they are
    "queries.audit.stepping._SteppedRow",
    "queries.audit.why._Causes",
    "queries.audit.why._Watched",
    "queries.engine.tables.Tables",  # names of tables, checked by each query
    "runtime.processes.graceful.TlsServer",  # handshakes under way
    "runtime.self_audit.auditor.Auditor",  # what was said of failures
    "runtime.self_audit.replayed.RowsAreReplays",  # keys to go on from, whether they exist or not
    "runtime.what_if.ledger.Tally",  # within one command
    "runtime.gateway.app.Rebuilder",  # tasks under way
    "runtime.gateway.past.PastBuilder",  # tasks under way, which look at the log's history
    "runtime.gateway.audit_tasks.AuditTasks",  # processes under way
    "commands.payment_reconciliation._Reconciler",  # within one command
    "runtime.load.csv_records.Records",  # another program
    "web.forms.Form",  # within one request
    "web.routing.Router",
    "web.sockets.Sockets",  # those that are open
    "web.statics.StaticFiles",
}


def kept() -> dict[str, set[str]]:
    """Attributes that are initialised as containers, by class."""
    found: dict[str, set[str]] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    names = {
                        name for init in node.body if _is_init(init) for name in _containers(init)
                    }
                    if names:
                        found[f"{module}.{node.name}"] = names
    return found


def _is_init(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def _containers(init: ast.stmt) -> set[str]:
    names = set()
    for node in ast.walk(init):
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        value = node.value
        empty = (
            isinstance(value, ast.Dict | ast.List) and not ast.unparse(value).strip("{}[]")
        ) or (
            isinstance(value, ast.Call)
            and ast.unparse(value.func).split("[")[0] in CONTAINERS
            and not value.args
        )
        if empty:
            names |= {ast.unparse(target).removeprefix("self.") for target in targets}
    return names


def test_whoever_keeps_something_has_said_what_becomes_of_it_when_the_log_goes_back() -> None:
    assert set(kept()) == REGISTERED | ENDS_WITH_ANOTHER | SAYS_NOTHING_OF_THE_LOG


def test_every_registration_for_changes_of_history_is_listed() -> None:
    """Each registration is one call; those without a container of their own (the head, the pool,
    standbys) come on top."""
    calls = sum(
        path.read_text(encoding="utf-8").count(".when_it_changes(")
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    )
    others = {"HeadWatcher", "PostgresLog", "Replica"}
    assert calls == len(REGISTERED) + len(others)

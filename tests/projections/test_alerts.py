"""Alerts as they stand."""

from domain.alerts import AlertAcknowledged, AlertRaised, AlertResolved
from domain.named_texts import NamedText
from projections.models.alerts import Alert, Alerts
from tests.support.events.history import History, at, some_id

ALERT = some_id("alert")


def raised(summary: str) -> AlertRaised:
    labels = (NamedText("queue", "ludoteca.mail"),)
    return AlertRaised("DeadLetters", labels, "ludoteca", "warning", summary, "deadletters")


def test_an_alert_shows_the_last_time_that_it_was_raised() -> None:
    story = History().happened(ALERT, raised("one"), AlertAcknowledged(note="looking"))
    taken = story.row(Alerts(), ALERT)
    assert taken is not None
    assert (taken.status, taken.note, taken.acknowledged_at) == ("ACKNOWLEDGED", "looking", at(2))
    assert taken.acknowledged_position == 2

    over = story.happened(ALERT, AlertResolved()).row(Alerts(), ALERT)
    assert over is not None
    assert (over.status, over.resolved_at, over.note) == ("RESOLVED", at(3), "looking")

    assert story.happened(ALERT, raised("two")).row(Alerts(), ALERT) == Alert(
        alert_id=ALERT,
        name="DeadLetters",
        labels={"queue": "ludoteca.mail"},
        source="ludoteca",
        severity="warning",
        summary="two",
        runbook="deadletters",
        status="RAISED",
        times=2,
        raised_at=at(4),
        acknowledged_at=None,
        note=None,
        resolved_at=None,
        raised_position=4,
        version=4,
        created_at=at(1),
        updated_at=at(4),
        created_position=1,
    )

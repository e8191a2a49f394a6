"""Payments that the log has lost (a standby took over without them), and jobs about them that are left."""

import asyncio
from pathlib import Path
from uuid import uuid4

from commands.ports.queue import Job
from tests.api.shop import open_shop

KINDS = ["charge", "intent", "cancel", "refund", "refund_failed"]


async def test_no_job_about_a_lost_payment_charges_anybody(database: str, tmp_path: Path) -> None:
    async with open_shop(database, tmp_path) as shop:
        jobs = [Job(uuid4(), kind, {"payment_id": str(uuid4()), "refund_id": str(uuid4())}) for kind in KINDS]
        head = await shop.core.log.head()
        await shop.queues.payments.publish(jobs)
        async with asyncio.timeout(30):
            while len(dropped(tmp_path)) < len(jobs):  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.02)
        assert all("unknown payment" in line for line in dropped(tmp_path))
        assert await shop.queues.payments.dead() == 0
        assert await shop.core.log.head() == head


def dropped(home: Path) -> list[str]:
    """What the worker has written of jobs that it dropped."""
    log = home / "logs" / "payment-worker.txt"
    return [line for line in log.read_text().splitlines() if "worker dropped" in line] if log.exists() else []

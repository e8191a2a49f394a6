"""Answers stored under idempotency keys, after they were sent."""

import asyncio
from uuid import uuid4

from api.idempotency import StoredAnswer, StoredAnswers
from commands.aggregates import WALLET
from commands.caller import SYSTEM
from domain import wallets
from eventstore.unit_of_work import UnitOfWork
from tests.support.shops.gateway import Person, Shop


async def test_the_first_answer_under_a_key_stays(shop: Shop, buyer: Person) -> None:
    """A repeat before it was stored makes an answer of its own."""
    answers = StoredAnswers(shop.core.log, shop.core.clock, b"secret")
    once = answers.key_for("somebody", uuid4().hex, b"a request")
    first, repeats, later = (StoredAnswer(200, {}, body) for body in (b"first", b"again", b"later"))

    async def decision(unit: UnitOfWork) -> None:
        unit.create(WALLET, uuid4(), wallets.create(uuid4(), "USD"))

    await shop.core.handler.handle(decision, SYSTEM, once)
    await asyncio.gather(*(answers.keep(once, buyer.id, each) for each in (first, repeats)))
    await answers.keep(once, buyer.id, later)

    done = await answers.done(once)
    assert done is not None
    told = await answers.recall(done, buyer.id)
    assert told is not None
    assert told.body == b"first"

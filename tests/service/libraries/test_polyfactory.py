"""polyfactory makes rows in a unit of work, as docs/sessions.md has it."""

import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from app.db import DatabaseSessionManager
from service.libraries.tools import stored
from service.recipes import run_examples

names = run_examples("model", "factory")
Account, AccountFactory = names["Account"], names["AccountFactory"]
IDS = select(Account.id).order_by(Account.id)


async def test_the_example_stores_what_it_makes() -> None:
    await names["seed"](500)
    assert await stored(IDS) == list(range(1, 501))
    assert len(set(await stored(select(Account.email)))) == 500
    assert all("@" in email for email in await stored(select(Account.email)))
    assert len(set(await stored(select(Account.balance)))) > 100
    assert max(await stored(select(Account.balance))) < 1_000
    assert set(await stored(select(Account.token))) == {None}


async def test_one_row_that_is_refused_leaves_none(database: DatabaseSessionManager) -> None:
    with pytest.raises(DBAPIError):
        async with database.session() as session:
            session.add_all([*AccountFactory.batch(10), AccountFactory.build(balance=-1)])
    assert await stored(IDS) == []

"""The examples of the README run, and do what the README says. Delete this file with that section."""

import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import MetaData, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.schema import CreateSchema

import app.db
from app.config import get_settings
from app.db import DatabaseSessionManager
from tests.conftest import connection_to
from tests.tools import application, created, open_now

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: ([\w-]+) -->\n```python\n(.*?)```\n", README, re.DOTALL))
IMPORTS = """
from collections.abc import AsyncGenerator, Sequence

from fastapi import BackgroundTasks, Depends, HTTPException
from fastapi.responses import StreamingResponse
from httpx2 import AsyncClient
from pydantic import BaseModel, ConfigDict
from sqlalchemy import BigInteger, ForeignKey, Identity, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column, relationship, selectinload

from app.config import get_settings
from app.db import ReadSessionDep, SessionDep, get_db, get_read_db, sessionmanager
from app.web import Id, Text
"""


class Base(DeclarativeBase):
    """Like `app.db.Base`, in a schema where no table of yours can be."""

    metadata = MetaData(schema="readme")
    __mapper_args__ = app.db.Base.__mapper_args__


async def ask_for_price(name: str) -> int:
    """Do what the README says takes seconds and holds no connection."""
    assert open_now() == (1, 0)
    return len(name)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the examples define. The last example changes the application: a test runs it."""
    names: dict[str, Any] = {"__name__": "readme", "Base": Base, "router": APIRouter()}
    names["ask_for_price"] = ask_for_price
    exec(IMPORTS, names)
    for name in ("model", "write", "read", "read-then-write", "relationships", "script", "stream", "test"):
        exec(compile(EXAMPLES[name], f"README.md, {name}", "exec"), names)
    names["app"] = application()
    names["app"].include_router(names["router"])
    return names


@pytest.fixture
async def client(names: dict[str, Any], database: DatabaseSessionManager) -> AsyncGenerator[AsyncClient]:
    """A client of the examples."""
    async with connection_to() as owner:
        await owner.execute(CreateSchema("readme", if_not_exists=True))
    transport = ASGITransport(names["app"])
    async with created(Base.metadata), AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
        assert open_now() == (0, 0)


def test_every_example_is_tested() -> None:
    assert list(EXAMPLES) == [
        "model", "write", "read", "read-then-write", "relationships", "script", "stream", "test", "override",
    ]  # fmt: skip


async def test_write_and_read(client: AsyncClient) -> None:
    written = await client.post("/things", json={"name": "lamp"})
    assert (written.status_code, written.json()) == (201, {"id": 1, "name": "lamp", "price": None})
    assert (await client.get("/things/1")).json() == written.json()
    assert (await client.get("/things/2")).status_code == 404


async def test_read_wait_then_write(client: AsyncClient) -> None:
    await client.post("/things", json={"name": "lamp"})
    answer = await client.post("/things/1/price")
    assert (answer.status_code, answer.json()["price"]) == (200, 4)
    assert (await client.get("/things/1")).json() == answer.json()


async def test_relationships(client: AsyncClient) -> None:
    thing = (await client.post("/things", json={"name": "lamp"})).json()
    part = await client.post("/things/1/parts")
    assert (part.status_code, part.json()) == (201, {"id": 1, "thing": thing})
    assert (await client.get("/parts")).json() == [part.json()]


async def test_script(client: AsyncClient, names: dict[str, Any], database: DatabaseSessionManager) -> None:
    await client.post("/things", json={"name": "lamp"})
    await database.close()
    await names["rename_things"]()
    database.init_db(get_settings())
    assert (await client.get("/things/1")).json()["name"] == "LAMP"


async def test_stream_and_background_task(
    client: AsyncClient, names: dict[str, Any], session: AsyncSession
) -> None:
    for name in ("lamp", "desk"):
        await client.post("/things", json={"name": name})
    export = await client.get("/things.csv")
    assert export.text == "1,lamp\n2,desk\n"
    stored = (await session.scalars(select(names["Thing"].name).order_by("id"))).all()
    assert stored == ["lamp", "desk", "an export"]


async def test_test(client: AsyncClient, names: dict[str, Any], session: AsyncSession) -> None:
    await names["test_a_thing_can_be_read"](client, session)


async def test_override(client: AsyncClient, names: dict[str, Any], session: AsyncSession) -> None:
    exec(EXAMPLES["override"], names)
    try:
        assert (await client.post("/things", json={"name": "lamp"})).status_code == 201
        assert (await client.get("/things/1")).status_code == 404
    finally:
        names["app"].dependency_overrides.clear()
    assert (await session.scalars(select(names["Thing"]))).all() == []  # the other session does not commit

"""SQLModel's tables are stored and read on the sessions, where they share a registry with `Base`."""

from collections.abc import AsyncGenerator

import pytest
from httpx2 import AsyncClient
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel, select

from app.db import ReadSessionDep, SessionDep
from service.libraries.tools import Own, client_of, new_app, stored


class Model(SQLModel, registry=registry(metadata=Own.metadata)):
    """An owner writes `registry=Base.registry`."""


class Lamp(Model, table=True):
    __tablename__ = "lamps"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)


app = new_app()


@app.post("/lamps", status_code=201)
async def create(lamp: Lamp, session: SessionDep) -> Lamp:
    """Create a lamp."""
    session.add(lamp)
    await session.flush()
    return lamp


@app.get("/lamps")
async def read(session: ReadSessionDep) -> list[Lamp]:
    """Read with SQLModel's own `select`."""
    return list(await session.scalars(select(Lamp)))


@pytest.fixture
async def client(tables: None) -> AsyncGenerator[AsyncClient]:
    async with client_of(app) as client:
        yield client


async def test_a_table_of_sqlmodel_is_stored_in_the_schema_and_read(client: AsyncClient) -> None:
    assert f"{Own.metadata.schema}.lamps" in Lamp.metadata.tables
    created = await client.post("/lamps", json={"name": "desk"})
    assert (created.status_code, created.json()) == (201, {"id": 1, "name": "desk"})
    assert (await client.post("/lamps", json={"name": "desk"})).status_code == 409
    assert (await client.get("/lamps")).raise_for_status().json() == [created.json()]
    assert await stored(select(Lamp.name)) == ["desk"]

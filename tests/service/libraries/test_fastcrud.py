"""FastCRUD creates, changes and reads rows, on `get_db` and on a read session."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import HTTPException
from fastcrud import FastCRUD, crud_router
from httpx2 import AsyncClient
from pydantic import BaseModel
from sqlalchemy import Text, select
from sqlalchemy.orm import Mapped, mapped_column

from app.db import ReadSessionDep, SessionDep, get_db
from service.libraries.tools import Own, client_of, new_app, stored


class Lamp(Own):
    __tablename__ = "lamps"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)


class LampIn(BaseModel):
    name: str


class LampOut(LampIn):
    id: int


lamps: Any = FastCRUD(Lamp)
app = new_app()
app.include_router(
    crud_router(
        session=get_db,
        model=Lamp,
        create_schema=LampIn,
        update_schema=LampIn,
        select_schema=LampOut,
        path="/lamps",
    )
)


@app.get("/read/{lamp_id}")
async def read(lamp_id: int, session: ReadSessionDep) -> LampOut | None:
    """Read with FastCRUD on a read session."""
    found: LampOut | None = await lamps.get(
        session, id=lamp_id, schema_to_select=LampOut, return_as_model=True
    )
    return found


@app.post("/write-on-a-read-session")
async def write_on_a_read_session(data: LampIn, session: ReadSessionDep) -> None:
    """Take the wrong session, which is a mistake."""
    await lamps.create(session, data)


@app.post("/create-and-fail")
async def create_and_fail(data: LampIn, session: SessionDep) -> None:
    """Create a lamp, which FastCRUD commits; create another one without a commit, and fail."""
    await lamps.create(session, data)
    await lamps.create(session, LampIn(name="lost"), commit=False)
    raise HTTPException(418)


@app.post("/change-without-a-commit")
async def change_without_a_commit(data: LampIn, session: SessionDep) -> None:
    """Leave the commit to the end of the request."""
    await lamps.update(session, data, id=1, commit=False)


@pytest.fixture
async def client() -> AsyncGenerator[AsyncClient]:
    async with client_of(app) as client:
        yield client


async def names() -> list[str]:
    return await stored(select(Lamp.name).order_by(Lamp.name))


async def test_a_row_is_created_changed_and_read(client: AsyncClient) -> None:
    created = await client.post("/lamps", json={"name": "desk"})
    assert created.status_code == 200
    assert created.json() == {"id": 1, "name": "desk"}
    assert await names() == ["desk"]

    assert (await client.patch("/lamps/1", json={"name": "floor"})).status_code == 200
    assert await names() == ["floor"]

    for path in ("/lamps/1", "/read/1"):
        assert (await client.get(path)).raise_for_status().json() == {"id": 1, "name": "floor"}
    assert (await client.get("/lamps")).raise_for_status().json()["data"] == [{"id": 1, "name": "floor"}]
    assert (await client.get("/lamps/2")).status_code == 404

    assert (await client.delete("/lamps/1")).status_code == 200
    assert await names() == []


async def test_a_change_without_a_commit_is_committed_by_the_request(client: AsyncClient) -> None:
    await client.post("/lamps", json={"name": "desk"})
    assert (await client.post("/change-without-a-commit", json={"name": "floor"})).status_code == 200
    assert await names() == ["floor"]


async def test_what_is_refused_stores_nothing(client: AsyncClient) -> None:
    await client.post("/lamps", json={"name": "desk"})
    assert (await client.post("/lamps", json={"name": "desk"})).status_code == 422  # FastCRUD looked before
    assert (await client.post("/create-and-fail", json={"name": "desk"})).status_code == 409
    assert (await client.post("/write-on-a-read-session", json={"name": "lost"})).status_code == 500
    assert await names() == ["desk"]


async def test_an_error_leaves_what_fastcrud_committed_and_nothing_else(client: AsyncClient) -> None:
    assert (await client.post("/create-and-fail", json={"name": "desk"})).status_code == 418
    assert await names() == ["desk"]

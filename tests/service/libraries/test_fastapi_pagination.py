"""fastapi-pagination pages through rows on a read session."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import HTTPException
from fastapi_pagination import Page, add_pagination
from fastapi_pagination.ext.sqlalchemy import apaginate
from httpx2 import AsyncClient
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Text, insert, select
from sqlalchemy.orm import Mapped, mapped_column

from app.db import ReadSessionDep, SessionDep, sessionmanager
from service.libraries.tools import Own, client_of, new_app, stored
from service.routes import open_now


class Star(Own):
    __tablename__ = "stars"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)


class StarOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str


STARS = select(Star).order_by(Star.id)
app = new_app()


@app.get("/stars")
async def list_stars(session: ReadSessionDep) -> Page[StarOut]:
    """Return a page. Between its two queries and after them, the read session holds no connection."""
    page: Page[StarOut] = await apaginate(session, STARS)
    assert open_now() == {"sessions": 1, "connections": 0}
    return page


@app.post("/stars", status_code=201)
async def add_and_list_stars(session: SessionDep) -> Page[StarOut]:
    """Return a page of what is stored, and of what is about to be."""
    session.add(Star(name="new"))
    await session.flush()
    page: Page[StarOut] = await apaginate(session, STARS)
    return page


@app.post("/stars/and-fail")
async def add_list_and_fail(session: SessionDep) -> Page[StarOut]:
    await add_and_list_stars(session)
    raise HTTPException(418)


add_pagination(app)


@pytest.fixture
async def client(tables: None) -> AsyncGenerator[AsyncClient]:
    async with sessionmanager.session() as session:
        await session.execute(insert(Star), [{"name": f"star {number}"} for number in range(1, 6)])
    async with client_of(app) as client:
        yield client


async def count() -> int:
    return len(await stored(select(Star.id)))


async def page_of(client: AsyncClient, number: int) -> Any:
    response = await client.get("/stars", params={"page": number, "size": 2})
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_read_session_is_paged_through(client: AsyncClient) -> None:
    pages = [await page_of(client, number) for number in (1, 2, 3)]
    assert [item["id"] for page in pages for item in page["items"]] == [1, 2, 3, 4, 5]
    assert {(page["total"], page["pages"]) for page in pages} == {(5, 3)}


async def test_a_page_of_a_unit_of_work_has_what_the_unit_wrote(client: AsyncClient) -> None:
    response = await client.post("/stars", params={"page": 1, "size": 50})
    assert response.status_code == 201
    assert [item["name"] for item in response.json()["items"]][-1] == "new"
    assert await count() == 6


async def test_an_error_after_a_page_leaves_nothing(client: AsyncClient) -> None:
    assert (await client.post("/stars/and-fail")).status_code == 418
    assert await count() == 5

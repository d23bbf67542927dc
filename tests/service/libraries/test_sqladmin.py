"""SQLAdmin lists, creates and changes rows, with the session maker of the session manager."""

from collections.abc import AsyncGenerator
from typing import ClassVar

import pytest
from httpx2 import AsyncClient
from sqladmin import Admin, ModelView
from sqlalchemy import Text, select
from sqlalchemy.orm import Mapped, mapped_column

from app.db import sessionmanager
from service.libraries.tools import Own, client_of, new_app, stored


class Planet(Own):
    __tablename__ = "planets"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)


class PlanetAdmin(ModelView, model=Planet):
    column_list: ClassVar = [Planet.id, Planet.name]


@pytest.fixture
async def client(tables: None) -> AsyncGenerator[AsyncClient]:
    """A client of an application with the admin pages. They need the database initialised."""
    app = new_app()
    Admin(app, session_maker=sessionmanager.session_maker).add_view(PlanetAdmin)
    async with client_of(app) as client:
        yield client


async def names() -> list[str]:
    return await stored(select(Planet.name).order_by(Planet.name))


async def create(client: AsyncClient, name: str) -> int:
    """Send the form, and return the status."""
    return (await client.post("/admin/planet/create", data={"name": name, "save": "Save"})).status_code


async def test_a_row_is_created_listed_and_changed(client: AsyncClient) -> None:
    assert (await client.get("/admin/planet/create")).status_code == 200
    assert await create(client, "Vulcan") == 302
    assert await names() == ["Vulcan"]

    listed = await client.get("/admin/planet/list")
    assert listed.status_code == 200
    assert "Vulcan" in listed.text

    changes = {"name": "Mercury", "save": "Save"}
    assert (await client.post("/admin/planet/edit/1", data=changes)).status_code == 302
    assert await names() == ["Mercury"]

    assert (await client.delete("/admin/planet/delete", params={"pks": "1"})).status_code == 200
    assert await names() == []


async def test_what_the_database_refuses_is_not_stored(client: AsyncClient) -> None:
    assert await create(client, "Vulcan") == 302
    assert await create(client, "Vulcan") == 400
    assert await names() == ["Vulcan"]

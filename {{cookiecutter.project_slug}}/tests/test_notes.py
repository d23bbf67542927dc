"""The routes of notes: a parent and its children."""

import pytest
from httpx2 import AsyncClient
from sqlalchemy.ext.asyncio import AsyncSession

from app.users.models import Note, User


@pytest.fixture
async def user(session: AsyncSession) -> User:
    """A user with three notes."""
    user = User(email="ada@example.com", notes=[Note(body=body) for body in ("one", "two", "three")])
    session.add(user)
    await session.commit()
    return user


async def test_a_created_note_is_the_last_of_its_user(client: AsyncClient, user: User) -> None:
    created = await client.post(f"/users/{user.id}/notes", json={"body": "four"})
    assert created.status_code == 201
    assert created.json()["body"] == "four"
    notes = (await client.get(f"/users/{user.id}/notes")).json()
    assert [note["body"] for note in notes["items"]] == ["one", "two", "three", "four"]
    assert notes["items"][-1] == created.json()


async def test_following_next_gives_every_note_of_the_user_once(
    client: AsyncClient, session: AsyncSession, user: User
) -> None:
    session.add(User(email="grace@example.com", notes=[Note(body="hers")]))
    await session.commit()
    seen, after, pages = [], 0, 0
    while after is not None:
        page = (await client.get(f"/users/{user.id}/notes", params={"limit": 2, "after": after})).json()
        seen += [note["body"] for note in page["items"]]
        after, pages = page["next"], pages + 1
    assert seen == ["one", "two", "three"]
    assert pages == 2


async def test_a_user_comes_with_all_notes(client: AsyncClient, user: User) -> None:
    alone = (await client.get(f"/users/{user.id}")).json()
    notes = (await client.get(f"/users/{user.id}/notes")).json()["items"]
    assert len(notes) == 3
    assert (await client.get(f"/users/{user.id}/with-notes")).json() == alone | {"notes": notes}


async def test_a_user_without_notes_has_an_empty_page(client: AsyncClient, session: AsyncSession) -> None:
    user = User(email="grace@example.com")
    session.add(user)
    await session.commit()
    assert (await client.get(f"/users/{user.id}/notes")).json() == {"items": [], "next": None}
    assert (await client.get(f"/users/{user.id}/with-notes")).json()["notes"] == []


async def test_the_notes_of_an_unknown_user_are_not_found(client: AsyncClient) -> None:
    assert (await client.post("/users/1/notes", json={"body": "x"})).status_code == 404
    assert (await client.get("/users/1/notes")).status_code == 404
    assert (await client.get("/users/1/with-notes")).status_code == 404


@pytest.mark.parametrize("body", [{}, {"body": ""}, {"body": "NUL\0"}, {"body": None}])
async def test_an_invalid_note_is_refused(
    client: AsyncClient, user: User, body: dict[str, str | None]
) -> None:
    assert (await client.post(f"/users/{user.id}/notes", json=body)).status_code == 422


async def test_the_notes_of_a_deleted_user_are_deleted(
    client: AsyncClient, session: AsyncSession, user: User
) -> None:
    note_id = user.notes[0].id
    assert (await client.delete(f"/users/{user.id}")).status_code == 204
    assert await session.get(Note, note_id, populate_existing=True) is None

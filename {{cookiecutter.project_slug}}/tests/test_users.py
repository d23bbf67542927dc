"""The routes of users, through the real sessions and the real database."""

import pytest
from httpx2 import AsyncClient
from sqlalchemy.ext.asyncio import AsyncSession

from app.users.models import User


async def stored(session: AsyncSession, count: int = 1) -> list[User]:
    """Store users, and return them."""
    users = [User(email=f"user{n}@example.com") for n in range(count)]
    session.add_all(users)
    await session.commit()
    return users


async def test_a_created_user_can_be_read(client: AsyncClient) -> None:
    created = await client.post("/users", json={"email": "Ada@example.com", "full_name": "Ada"})
    assert created.status_code == 201
    read = await client.get(f"/users/{created.json()['id']}")
    assert read.status_code == 200
    assert read.json() == created.json()
    assert read.json()["email"] == "Ada@example.com"
    assert read.json()["full_name"] == "Ada"
    assert read.json()["created_at"].endswith("Z")


async def test_an_email_is_unique_without_regard_to_case(client: AsyncClient) -> None:
    assert (await client.post("/users", json={"email": "grace@example.com"})).status_code == 201
    duplicate = await client.post("/users", json={"email": "GRACE@example.com"})
    assert duplicate.status_code == 409
    assert "grace" not in duplicate.text.lower()
    assert len((await client.get("/users")).json()["items"]) == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "no address"},
        {"email": "a@example.com", "full_name": ""},
        {"email": "a@example.com", "full_name": "NUL\0"},
        {"email": "a@example.com", "full_name": "x" * 201},
    ],
)
async def test_an_invalid_user_is_refused(client: AsyncClient, body: dict[str, str]) -> None:
    assert (await client.post("/users", json=body)).status_code == 422


@pytest.mark.parametrize("user_id", ["0", "-1", "x", str(2**63), "9" * 10_000])
async def test_an_id_that_no_user_can_have_is_refused(client: AsyncClient, user_id: str) -> None:
    assert (await client.get(f"/users/{user_id}")).status_code == 422


async def test_an_unknown_user_is_not_found(client: AsyncClient) -> None:
    assert (await client.get("/users/1")).status_code == 404
    assert (await client.patch("/users/1", json={})).status_code == 404
    assert (await client.delete("/users/1")).status_code == 404


async def test_a_deleted_user_is_gone(client: AsyncClient, session: AsyncSession) -> None:
    [user] = await stored(session)
    assert (await client.delete(f"/users/{user.id}")).status_code == 204
    assert (await client.get(f"/users/{user.id}")).status_code == 404


async def test_a_change_is_stored_and_the_rest_stays(client: AsyncClient, session: AsyncSession) -> None:
    [user] = await stored(session)
    changed = await client.patch(f"/users/{user.id}", json={"full_name": "Ada"})
    assert changed.status_code == 200
    assert changed.json() == (await client.get(f"/users/{user.id}")).json()
    await session.refresh(user)
    assert (user.email, user.full_name) == ("user0@example.com", "Ada")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"full_name": None}, 200),
        ({}, 200),
        ({"email": None}, 422),
        ({"email": "no address"}, 422),
        ({"email": "USER1@example.com"}, 409),
    ],
)
async def test_a_change_that_does_not_fit_is_refused(
    client: AsyncClient, session: AsyncSession, change: dict[str, str | None], status: int
) -> None:
    user, _other = await stored(session, 2)
    assert (await client.patch(f"/users/{user.id}", json=change)).status_code == status
    await session.refresh(user)
    assert user.email == "user0@example.com"


async def test_following_next_gives_every_user_once(client: AsyncClient, session: AsyncSession) -> None:
    ids = [user.id for user in await stored(session, 5)]
    seen, after, pages = [], 0, 0
    while after is not None:
        page = (await client.get("/users", params={"limit": 2, "after": after})).json()
        seen += [user["id"] for user in page["items"]]
        after, pages = page["next"], pages + 1
    assert seen == ids
    assert pages == 3


async def test_a_last_page_that_is_full_has_no_next(client: AsyncClient, session: AsyncSession) -> None:
    await stored(session, 2)
    assert (await client.get("/users", params={"limit": 2})).json()["next"] is None


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "after=-1", f"after={2**63}"])
async def test_a_bad_page_is_refused(client: AsyncClient, query: str) -> None:
    assert (await client.get(f"/users?{query}")).status_code == 422

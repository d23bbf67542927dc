"""fastapi-users registers accounts, logs them in and knows the current one, on `Depends(get_db)`."""

import uuid
from collections.abc import AsyncGenerator
from typing import Annotated

import pytest
from fastapi import Depends, HTTPException
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from httpx2 import AsyncClient
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import ReadSessionDep, SessionDep, get_db
from service.libraries.tools import Own, client_of, new_app, stored

SECRET = "a secret of the tests, which is long enough for SHA-256"
ADA = {"email": "ada@example.com", "password": "correct horse"}
GRACE = {"email": "grace@example.com", "password": "battery staple"}


class Account(SQLAlchemyBaseUserTableUUID, Own):
    __tablename__ = "accounts"


EMAIL = Account.__table__.c.email  # to a type checker, `Account.email` is a string
EMAILS = select(EMAIL).order_by(EMAIL)


class AccountRead(schemas.BaseUser[uuid.UUID]):
    pass


class AccountCreate(schemas.BaseUserCreate):
    pass


class AccountUpdate(schemas.BaseUserUpdate):
    pass


class AccountManager(UUIDIDMixin, BaseUserManager[Account, uuid.UUID]):
    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


Accounts = SQLAlchemyUserDatabase[Account, uuid.UUID]


async def get_accounts(session: Annotated[AsyncSession, Depends(get_db)]) -> AsyncGenerator[Accounts]:
    """As the documentation of fastapi-users has it."""
    yield SQLAlchemyUserDatabase(session, Account)


async def get_manager(accounts: Annotated[Accounts, Depends(get_accounts)]) -> AsyncGenerator[AccountManager]:
    yield AccountManager(accounts)


def get_strategy() -> JWTStrategy[Account, uuid.UUID]:
    return JWTStrategy(secret=SECRET, lifetime_seconds=3600)


backend = AuthenticationBackend("jwt", BearerTransport(tokenUrl="auth/login"), get_strategy)
users = FastAPIUsers[Account, uuid.UUID](get_manager, [backend])
current_account = users.current_user(active=True)
Manager = Annotated[AccountManager, Depends(get_manager)]
CurrentAccount = Annotated[Account, Depends(current_account)]

app = new_app()
app.include_router(users.get_register_router(AccountRead, AccountCreate), prefix="/auth")
app.include_router(users.get_auth_router(backend), prefix="/auth")
app.include_router(users.get_users_router(AccountRead, AccountUpdate), prefix="/accounts")


@app.get("/who")
async def who(account: CurrentAccount, session: ReadSessionDep) -> list[str]:
    """Return the current account, and all accounts as a read session sees them."""
    return [account.email, *(await session.scalars(EMAILS))]


@app.post("/accounts/and-fail")
async def create_and_fail(data: AccountCreate, manager: Manager, session: SessionDep) -> None:
    """Register an account, which fastapi-users commits; add another one, and fail."""
    await manager.create(data)
    session.add(Account(email=GRACE["email"], hashed_password="none"))
    await session.flush()
    raise HTTPException(418)


@pytest.fixture
async def client() -> AsyncGenerator[AsyncClient]:
    async with client_of(app) as client:
        yield client


async def emails() -> list[str]:
    return await stored(EMAILS)


async def log_in(client: AsyncClient, password: str = ADA["password"]) -> dict[str, str]:
    response = await client.post("/auth/login", data={"username": ADA["email"], "password": password})
    assert response.status_code == 200, response.text
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


async def test_an_account_is_registered_logs_in_and_is_the_current_one(client: AsyncClient) -> None:
    registered = await client.post("/auth/register", json=ADA)
    assert registered.status_code == 201
    assert await emails() == [ADA["email"]]

    header = await log_in(client)
    assert (await client.get("/accounts/me", headers=header)).raise_for_status().json() == registered.json()
    assert (await client.get("/who", headers=header)).raise_for_status().json() == [ADA["email"]] * 2
    assert (await client.get("/who")).status_code == 401


async def test_a_change_of_an_account_is_stored(client: AsyncClient) -> None:
    await client.post("/auth/register", json=ADA)
    changes = {"email": "countess@example.com"}
    changed = await client.patch("/accounts/me", json=changes, headers=await log_in(client))
    assert changed.status_code == 200
    assert await emails() == ["countess@example.com"]


async def test_what_is_refused_stores_nothing(client: AsyncClient) -> None:
    await client.post("/auth/register", json=ADA)
    assert (await client.post("/auth/register", json=ADA)).status_code == 400
    wrong = {"username": ADA["email"], "password": "wrong"}
    assert (await client.post("/auth/login", data=wrong)).status_code == 400
    assert await emails() == [ADA["email"]]


async def test_an_error_leaves_what_fastapi_users_committed_and_nothing_else(client: AsyncClient) -> None:
    assert (await client.post("/accounts/and-fail", json=ADA)).status_code == 418
    assert await emails() == [ADA["email"]]

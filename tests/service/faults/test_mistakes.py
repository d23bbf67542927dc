"""Mistakes of a developer: each is one line in the log, and the line says what the mistake was."""

import asyncio
import json
import re
import sys
import uuid
from collections.abc import Generator
from contextlib import suppress

import pytest
from httpx2 import AsyncClient, TransportError

from app.db import DatabaseSessionManager
from app.users.models import Note, User
from service.servers import Server, serving
from service.tools import wait_for

NOTHING = {"sessions": 0, "connections": 0}
# Starlette says first that no handler can answer any more.
AFTER = "the response had begun, RuntimeError: Caught handled exception, but response already started. < "
CLOSED = "This Session has been permanently closed"
OPEN = "In a stream or a background task, open a session()."
REFRESH = "`await session.refresh(user, ['{}'])`."
NOTES = "User.notes was not loaded: use selectinload(User.notes) in the query, or " + REFRESH.format("notes")
EMAIL = "User.email was not loaded: " + REFRESH.format("email")
MISTAKES = {  # by path: what the line must say
    "lazy-in-the-route": ["500, MissingGreenlet: greenlet_spawn has not been called", NOTES],
    "lazy-in-the-response": ["500, ResponseValidationError: response.notes: ", "MissingGreenlet", NOTES],
    "lazy-after-the-session": [AFTER + "DetachedInstanceError: ", "not bound to a Session", NOTES],
    "lazy-raises": ["500, InvalidRequestError: 'User.notes' is not available due to lazy='raise'", NOTES],
    "lazy-raises-in-the-response": ["500, ResponseValidationError: response.notes: ", "lazy='raise'", NOTES],
    "lazy-in-a-property": ["500, ResponseValidationError: response.note_count: ", "not loaded, or an await"],
    "expired-in-the-route": ["500, MissingGreenlet: greenlet_spawn has not been called", EMAIL],
    "expired-in-the-response": ["500, ResponseValidationError: response.id: ", EMAIL],
    "no-await": ["500, MissingGreenlet: greenlet_spawn has not been called", "or an await is missing"],
    "misfit": ["500, ResponseValidationError: response.email: string_type; response.full_name: missing"],
    "unflushed": ["500, NotFlushedError: The response needs a value", "Call `await session.flush()` first."],
    "background-with-the-session-of-the-request": [AFTER + "InvalidRequestError: ", CLOSED, OPEN],
    "stream-with-the-session-of-the-request": [AFTER + "InvalidRequestError: ", CLOSED, OPEN],
    "write-in-a-read": ["500, ReadOnlySessionError: A read session cannot write", "take SessionDep"],
    "change-in-a-read": ["500, ChangedObjectError: An object of a read session was", "take SessionDep"],
    "stream-in-a-read": ["500, TransactionNeededError: A read session has no", "Take SessionDep"],
    "commit-in-a-joined-block": ["500, JoinedBlockError: This session() block is inside", "begin_nested()"],
    "go-on-after-a-joined-block-failed": ["500, RollbackOnlyError: Nothing was committed.", "Do not catch"],
    "two-tasks-in-one-stream": ["500, SharedSessionError: ", "Open a session() in each task."],
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(True, marks=pytest.mark.skipif(sys.platform == "win32", reason="has other terminals")),
        False,
    ],
    ids=["terminal", "json"],
)
def server(own_database: object, request: pytest.FixtureRequest) -> Generator[Server]:
    with serving(environment={}, terminal=request.param) as server:
        yield server


@pytest.fixture
async def user(database: DatabaseSessionManager) -> str:
    """A user with a note; the name of the user, which is nobody's business."""
    async with database.session() as session:
        session.add(User(email="ada@example.com", full_name="hunter2", notes=[Note(body="x")]))
    return "hunter2"


def said(server: Server, request_id: str) -> list[str]:
    """Return the errors that the service logged about a request. (uvicorn may miss the end of a response.)"""
    lines = [line for line in server.log.splitlines() if request_id in line]
    if not server.terminal:
        read = [json.loads(line) for line in lines]
        return [line["message"] for line in read if (line["level"], line["name"][:4]) == ("ERROR", "app.")]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if re.match("ERROR: +POST ", line)]
    assert all(line.endswith(f" [{request_id}]") for line in errors)
    return errors


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_is_one_line_that_says_what_it_was(server: Server, user: str, mistake: str) -> None:
    path, request_id, words = f"/test/{mistake}", uuid.uuid4().hex, MISTAKES[mistake]
    async with AsyncClient(base_url=server.url) as client:
        with suppress(TransportError):  # a stream that is broken off
            await client.post(path, headers={"x-request-id": request_id})
        # Some of the mistakes are made after the response.
        await asyncio.to_thread(wait_for, lambda: said(server, request_id))
        [line] = said(server, request_id)
        assert line.startswith(f"POST {path}: {words[0]}")
        for more in words[1:]:
            assert more in line
        assert user not in server.log  # what a validation error quotes, and what a statement was given
        assert (await client.get("/test/open")).raise_for_status().json() == NOTHING

"""Users and their notes: create, read, page through, change, delete."""

from fastapi import APIRouter, HTTPException
from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.orm import selectinload

from app.db import ReadSessionDep, SessionDep
from app.users.models import Note, User
from app.users.schemas import NoteCreate, NotePublic, UserCreate, UserPublic, UserUpdate, UserWithNotes
from app.web import AfterId, Id, Page, PageSize, page, problems

router = APIRouter(prefix="/users", tags=["users"])

# Built once: to build a statement in every request would be a fifth of what a read costs.
NEW_USER = select(User).from_statement(insert(User).returning(User))
USER = select(User).where(User.id == bindparam("id"))
USER_WITH_NOTES = USER.options(selectinload(User.notes))
PAGE = select(User).where(User.id > bindparam("after")).order_by(User.id).limit(bindparam("limit"))
DELETE_USER = delete(User).where(User.id == bindparam("id")).returning(User.id)
NOTES = (
    select(Note)
    .where(Note.user_id == bindparam("user_id"), Note.id > bindparam("after"))
    .order_by(Note.id)
    .limit(bindparam("limit"))
)
NO_USER = "There is no such user."


@router.post("", status_code=201, response_model=UserPublic, responses=problems(400, 409))
async def create_user(data: UserCreate, session: SessionDep) -> User:
    """Create a user. The response is sent after the commit: a 201 is stored."""
    user: User = (await session.scalars(NEW_USER, data.model_dump())).one()
    return user


@router.get("/{user_id}", response_model=UserPublic, responses=problems(404))
async def read_user(user_id: Id, session: ReadSessionDep) -> User:
    """Return a user."""
    user = await session.scalar(USER, {"id": user_id})
    if user is None:
        raise HTTPException(404, NO_USER)
    return user


@router.get("", response_model=Page[UserPublic])
async def list_users(session: ReadSessionDep, limit: PageSize = 50, after: AfterId = 0) -> dict[str, object]:
    """Return a page of users. Keyset pagination: the last page costs what the first costs."""
    users = (await session.scalars(PAGE, {"after": after, "limit": limit + 1})).all()
    return page(users, limit)


@router.patch("/{user_id}", response_model=UserPublic, responses=problems(400, 404, 409))
async def update_user(user_id: Id, data: UserUpdate, session: SessionDep) -> User:
    """Change a user. The commit sends what was changed."""
    user = await session.get(User, user_id, with_for_update=True)  # nobody deletes the user meanwhile
    if user is None:
        raise HTTPException(404, NO_USER)
    for name, value in data.model_dump(exclude_unset=True).items():
        setattr(user, name, value)
    return user


@router.delete("/{user_id}", status_code=204, responses=problems(404))
async def delete_user(user_id: Id, session: SessionDep) -> None:
    """Delete a user and what belongs to the user."""
    if await session.scalar(DELETE_USER, {"id": user_id}) is None:
        raise HTTPException(404, NO_USER)


@router.get("/{user_id}/with-notes", response_model=UserWithNotes, responses=problems(404))
async def read_user_with_notes(user_id: Id, session: ReadSessionDep) -> User:
    """Return a user and all notes of the user: two queries, whatever the number of notes."""
    user = await session.scalar(USER_WITH_NOTES, {"id": user_id})
    if user is None:
        raise HTTPException(404, NO_USER)
    return user


@router.post("/{user_id}/notes", status_code=201, response_model=NotePublic, responses=problems(400, 404))
async def create_note(user_id: Id, data: NoteCreate, session: SessionDep) -> Note:
    """Create a note of a user. The flush brings the id that the response needs."""
    if await session.get(User, user_id) is None:
        raise HTTPException(404, NO_USER)
    note = Note(user_id=user_id, body=data.body)
    session.add(note)
    await session.flush()
    return note


@router.get("/{user_id}/notes", response_model=Page[NotePublic], responses=problems(404))
async def list_notes(
    user_id: Id, session: ReadSessionDep, limit: PageSize = 50, after: AfterId = 0
) -> dict[str, object]:
    """Return a page of the notes of a user."""
    parameters = {"user_id": user_id, "after": after, "limit": limit + 1}
    notes = (await session.scalars(NOTES, parameters)).all()
    if not notes and await session.get(User, user_id) is None:
        raise HTTPException(404, NO_USER)
    return page(notes, limit)

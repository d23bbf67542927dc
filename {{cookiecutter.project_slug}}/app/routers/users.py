"""Users: create, read, page through, delete."""

from fastapi import APIRouter, HTTPException
from sqlalchemy import bindparam, delete, insert, select

from app.database import ReadSessionDep, SessionDep
from app.models import User
from app.problems import problems
from app.schemas import AfterId, Id, PageSize, UserCreate, UserPage, UserPublic

router = APIRouter(prefix="/users", tags=["users"])

# Built once: to build them in every request would be a fifth of what a read costs.
NEW_USER = select(User).from_statement(insert(User).returning(User))
USER = select(User).where(User.id == bindparam("id"))
PAGE = select(User).where(User.id > bindparam("after")).order_by(User.id).limit(bindparam("limit"))
DELETE_USER = delete(User).where(User.id == bindparam("id")).returning(User.id)


@router.post("", status_code=201, response_model=UserPublic, responses=problems(400, 409, 413))
async def create_user(data: UserCreate, session: SessionDep) -> User:
    """Create a user. The response is sent after the commit: a 201 is stored."""
    user: User = (await session.scalars(NEW_USER, data.model_dump())).one()
    return user


@router.get("/{user_id}", response_model=UserPublic, responses=problems(404))
async def read_user(user_id: Id, session: ReadSessionDep) -> User:
    """Return a user."""
    user = await session.scalar(USER, {"id": user_id})
    if user is None:
        raise HTTPException(404, "There is no such user.")
    return user


@router.get("", response_model=UserPage)
async def list_users(session: ReadSessionDep, limit: PageSize = 50, after: AfterId = 0) -> dict[str, object]:
    """Return a page of users. Keyset pagination: the last page costs what the first costs."""
    users = (await session.scalars(PAGE, {"after": after, "limit": limit + 1})).all()
    page = users[:limit]
    return {"items": page, "next": page[-1].id if len(users) > limit else None}


@router.delete("/{user_id}", status_code=204, responses=problems(404))
async def delete_user(user_id: Id, session: SessionDep) -> None:
    """Delete a user and what belongs to the user."""
    if await session.scalar(DELETE_USER, {"id": user_id}) is None:
        raise HTTPException(404, "There is no such user.")

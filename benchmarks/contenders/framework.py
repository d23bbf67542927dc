"""FastAPI alone, no database: what nothing built on it can pass."""

from datetime import UTC, datetime

from fastapi import APIRouter

from app.users.schemas import UserPublic
from benchmarks.contenders.application import application

router = APIRouter()
USER = {"email": "user1@example.com", "full_name": None, "created_at": datetime(2026, 1, 1, tzinfo=UTC)}


@router.get("/users/{user_id}", response_model=UserPublic)
async def read_user(user_id: int) -> dict[str, object]:
    """Return a user."""
    return {"id": user_id, **USER}


app = application(router)

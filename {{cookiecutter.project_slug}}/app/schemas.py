"""What goes in and out of the routes."""

from datetime import datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, EmailStr, Field

BIGINT_MAX = 2**63 - 1
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]  # PostgreSQL has no NUL

UserId = Annotated[int, Path(ge=1, le=BIGINT_MAX)]
PageSize = Annotated[int, Query(ge=1, le=200)]
AfterId = Annotated[int, Query(ge=0, le=BIGINT_MAX, description="The `next` of the page before.")]


class UserCreate(BaseModel):
    """What a client sends to create a user."""

    email: EmailStr
    full_name: Text | None = None


class UserPublic(BaseModel):
    """What a client sees of a user."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    email: str
    full_name: str | None
    created_at: datetime


class UserPage(BaseModel):
    """Users in the order of their ids. `next` is the `after` of the page that follows; null on the last."""

    model_config = ConfigDict(from_attributes=True)

    items: list[UserPublic]
    next: int | None

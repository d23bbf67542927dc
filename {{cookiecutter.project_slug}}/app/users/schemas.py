"""What goes in and out of the routes."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, EmailStr, field_validator

from app.web import Text


class UserCreate(BaseModel):
    """What a client sends to create a user."""

    email: EmailStr
    full_name: Text | None = None


class UserUpdate(BaseModel):
    """What a client sends to change a user: the fields that change."""

    email: EmailStr | None = None
    full_name: Text | None = None

    @field_validator("email")
    @classmethod
    def is_kept(cls, email: str | None) -> str | None:
        """Refuse `null`: a user has an email address."""
        if email is None:
            raise ValueError("cannot be null")
        return email


class UserPublic(BaseModel):
    """What a client sees of a user."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    email: str
    full_name: str | None
    created_at: datetime


class NoteCreate(BaseModel):
    """What a client sends to create a note."""

    body: Text


class NotePublic(BaseModel):
    """What a client sees of a note."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    body: str


class UserWithNotes(UserPublic):
    """What a client sees of a user and of all notes of the user."""

    notes: list[NotePublic]

"""Tables. After a change: `uv run python -m dev alembic revision --autogenerate -m "what changed"`."""

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, Index, Text, func
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db import Base


class User(Base):
    """A person, known by an email address. It is unique; upper and lower case are the same."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    email: Mapped[str] = mapped_column(Text)
    full_name: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    # PostgreSQL deletes the notes of a user. They are loaded when a query asks for them.
    notes: Mapped[list["Note"]] = relationship(
        back_populates="user", order_by="Note.id", passive_deletes="all", lazy="raise"
    )

    __table_args__ = (Index("uq_users_email", func.lower(email), unique=True),)


class Note(Base):
    """A text that belongs to a user and goes when the user goes."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), index=True)
    body: Mapped[str] = mapped_column(Text)

    user: Mapped[User] = relationship(back_populates="notes", lazy="raise")

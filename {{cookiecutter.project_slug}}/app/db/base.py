"""What all models have in common."""

import enum
from importlib import import_module
from pathlib import Path

from sqlalchemy import Enum, MetaData
from sqlalchemy.orm import DeclarativeBase

from app.config import get_settings


class Base(DeclarativeBase):
    """The base of all models. Every statement made from them names the configured schema."""

    metadata = MetaData(
        schema=get_settings().database_schema,
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        },
    )
    # A flush also reads what the server computed: ids, defaults, the values of `onupdate=func.now()`.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 SQLAlchemy declares it so
    # `Mapped[Color]` is a VARCHAR with the name of the member, so a new member needs no revision. A type of
    # PostgreSQL (CREATE TYPE) would be in another schema on SQLAlchemy 2.0 than on 2.1, and Alembic neither
    # drops such a type nor gives it new members.
    type_annotation_map = {  # noqa: RUF012 SQLAlchemy declares it so
        enum.Enum: Enum(enum.Enum, native_enum=False, length=64, validate_strings=True)
    }


def import_models() -> None:
    """Import the `models` module of every folder in `app/`.

    Alembic then knows all tables, and a `relationship("Order")` finds the class in another folder.
    """
    for models in sorted(Path(__file__).parents[1].glob("*/models*")):
        if models.stem == "models":  # a file or a folder
            import_module(f"app.{models.parent.name}.models")

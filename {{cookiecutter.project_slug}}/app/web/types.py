"""Types that the schemas and the routes of every folder share. For a UUID, take `uuid.UUID` as it is."""

from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

BIGINT_MAX = 2**63 - 1  # PostgreSQL's
Item = TypeVar("Item")

Id = Annotated[int, Field(ge=1, le=BIGINT_MAX)]  # in a path, a query or a body
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]  # PostgreSQL has no NUL
PageSize = Annotated[int, Query(ge=1, le=200)]
AfterId = Annotated[int, Query(ge=0, le=BIGINT_MAX, description="The `next` of the page before.")]


class Page(BaseModel, Generic[Item]):
    """Items in the order of their ids. `next` is the `after` of the next page; null on the last page."""

    model_config = ConfigDict(from_attributes=True)

    items: list[Item]
    next: int | None


def page(rows: Sequence[Any], limit: int) -> dict[str, object]:
    """Return the body of a `Page`. `rows` has one row more than `limit` if there is another page."""
    items = rows[:limit]
    return {"items": items, "next": items[-1].id if len(rows) > limit else None}

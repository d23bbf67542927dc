"""Two tenants, each with a schema, as docs/sessions.md has it; and a table for their rows."""

import asyncio
import enum
from collections import Counter
from collections.abc import Iterable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Identity, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.schema import CreateSchema

from app.config import get_settings
from app.db import sessionmanager
from service.libraries.tools import Own, client_of, new_app
from service.recipes import run_examples

recipe = SimpleNamespace(**run_examples("tenants"))
TENANTS: dict[str, str] = recipe.TENANTS
if TYPE_CHECKING:
    TenantSession = AsyncSession
else:
    TenantSession = recipe.TenantSession
LANDLORD = "landlord"  # whose rows are in the configured schema
WHOSE = text("SELECT DISTINCT owner FROM parcels WHERE color = 'RED'")


class Color(enum.Enum):
    RED = "r"
    GREEN = "g"


class Parcel(Own):
    """Each schema counts its own ids: a read by id in the wrong schema finds a row."""

    __tablename__ = "parcels"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    owner: Mapped[str]
    color: Mapped[Color]


PARCELS = Parcel.metadata.tables[f"{Parcel.metadata.schema}.parcels"]


async def make_parcels(connection: AsyncConnection, schemas: Iterable[str]) -> None:
    """Make the table in these schemas and in the configured one, as their owner; with one row there."""
    configured = get_settings().database_schema
    for schema in (configured, *schemas):
        options: dict[str, Any] = {"schema_translate_map": {configured: schema}}
        there = await connection.execution_options(**options)
        await there.execute(CreateSchema(schema, if_not_exists=True))
        await there.run_sync(Own.metadata.create_all, tables=[PARCELS])
    await connection.execution_options(schema_translate_map={})
    await connection.execute(insert(Parcel), {"owner": LANDLORD, "color": Color.RED})


async def send(owner: str, session: AsyncSession, *, commit: bool = False) -> list[str]:
    """Write a parcel. Return whose parcels the ORM, Core and SQL text show."""
    parcel = Parcel(owner=owner, color=Color.RED)
    session.add(parcel)
    await session.flush()
    if commit:
        await session.commit()
    own = select(Parcel).where(Parcel.id == parcel.id, Parcel.color == Color.RED)
    locking = own.with_for_update().execution_options(populate_existing=True)
    core = select(PARCELS.c.owner).where(PARCELS.c.id == parcel.id, PARCELS.c.color.in_([Color.RED]))
    raw = await session.scalars(text("SELECT owner FROM parcels WHERE id = :id"), {"id": parcel.id})
    return [(await session.scalars(locking)).one().owner, *(await session.scalars(core)), *raw]


async def interleaved(requests: int) -> Counter[tuple[str, str]]:
    """Send requests of the tenants at once; return whose parcels each saw, and how often.

    Every tenth commits by hand in between. Other sessions read the configured schema meanwhile. At the end
    each tenant is asked once for all rows.
    """
    app, seen = new_app(), Counter[tuple[str, str]]()

    @app.post("/parcels")
    async def route(owner: str, session: TenantSession, *, commit: bool = False) -> list[str]:
        return await send(owner, session, commit=commit)

    async with client_of(app) as client:

        async def use(first: int) -> None:
            for number in range(first, requests, 20):
                host, tenant = list(TENANTS.items())[number % len(TENANTS)]
                url = f"http://{host}/parcels?owner={tenant}&commit={number % 10 < len(TENANTS)}"
                answer = await client.post(url)
                seen.update((tenant, whose) for whose in {str(answer.status_code), *answer.json()})
                if number % 10 == 0:
                    async with sessionmanager.session() as session:
                        seen.update([(LANDLORD, whose) for whose in await session.scalars(WHOSE)])

        await asyncio.gather(*map(use, range(20)))
    for tenant in TENANTS.values():
        async with recipe.tenant_session(tenant) as session:
            seen.update((tenant, whose) for whose in await session.scalars(WHOSE))
    return seen

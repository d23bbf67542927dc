"""The schemas of tenants, as docs/sessions.md has them, through PgBouncer in transaction mode."""

import secrets
from collections.abc import AsyncGenerator

import pytest
from sqlalchemy import URL

from app.config import get_settings
from app.db import DatabaseSessionManager
from migrations import roles
from service.libraries.tools import owner
from service.scaling.test_pgbouncer import PGBOUNCER, pgbouncer
from service.tenants import LANDLORD, TENANTS, interleaved, make_parcels
from service.tools import on_server

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="needs the program pgbouncer")


@pytest.fixture
async def behind_pgbouncer(database: DatabaseSessionManager, own_database: URL) -> AsyncGenerator[None]:
    """Connect the service as a lesser role, through PgBouncer. Both tenants have the table."""
    name = f"tenants_{secrets.token_hex(4)}"
    own = own_database.set(username=name, password=name)
    owner_url = own_database._replace(password=None)  # which stays as it is
    settings = get_settings().model_copy(update={"database_url": own, "database_owner_url": owner_url})
    await roles.run(settings, own_database)
    try:
        async with owner() as connection:
            await make_parcels(connection, TENANTS.values())
        with pgbouncer(own_database, {name: name}) as bouncer:
            through = {"database_url": bouncer.set(username=name, password=name), "database_pgbouncer": True}
            await database.close()
            database.init_db(settings.model_copy(update=through))
            yield
            await database.close()
    finally:
        database.init_db(get_settings())  # the fixture closes it
        for schema in TENANTS.values():
            await on_server(own_database, f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        await on_server(own_database, f"DROP OWNED BY {name}")
        await on_server(own_database, f"DROP ROLE {name}")


async def test_no_tenant_sees_rows_of_another_in_1_000_interleaved_requests(behind_pgbouncer: None) -> None:
    statuses = {(tenant, "200"): 500 for tenant in TENANTS.values()}
    rows = {(whose, whose): 501 for whose in TENANTS.values()} | {(LANDLORD, LANDLORD): 100}
    assert await interleaved(1_000) == statuses | rows

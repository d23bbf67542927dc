"""The roles of the development database, which are those of production: one owns the tables, one serves."""

import asyncio
import os
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

from dev.programs import PostgresUnavailableError
from dev.terminal import say

ONE_ROLE = (
    "The tables of the development database belong to its administrator: they are older than the two roles. "
    "`python -m dev reset` deletes the database. The next one has the roles."
)


def set_urls(home: Path, administrator: str) -> None:
    """Set DATABASE_URL and DATABASE_OWNER_URL to the two roles of the server in the folder `home`.

    The first start makes the roles.
    """
    secret, made = (home / "password").read_text(), home / "data" / "roles"
    for variable, role in {"DATABASE_URL": "service", "DATABASE_OWNER_URL": "owner"}.items():
        password = sha256(f"{role} {secret}".encode()).hexdigest()
        os.environ[variable] = administrator.replace(f"postgres:{secret}@", f"{role}:{password}@")
    with FileLock(home / "lock"):
        if not made.exists() and not make_roles(administrator):
            os.environ |= {"DATABASE_URL": administrator, "DATABASE_OWNER_URL": "none"}
            say(ONE_ROLE)
        else:
            made.touch()


def make_roles(administrator: str) -> bool:
    """Make the roles. Tell whether the tables, if there are any, are the owner's."""
    # Here, because they take a second, and only the first start needs them.
    from asyncpg import InsufficientPrivilegeError, PostgresError, connect  # noqa: PLC0415
    from sqlalchemy import make_url  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    from app.config import get_settings  # noqa: PLC0415
    from migrations.roles import run  # noqa: PLC0415

    async def make() -> None:
        await run(get_settings(), make_url(administrator))
        connection = await connect(administrator)
        await connection.execute("GRANT pg_monitor TO owner")  # psql shows what the service does
        await connection.close()

    try:
        asyncio.run(make())
    except InsufficientPrivilegeError:
        return False
    except (PostgresError, DBAPIError) as error:
        line = str(error).partition("\n")[0]
        raise PostgresUnavailableError(f"The development database gets no roles: {line}") from None
    finally:
        get_settings.cache_clear()  # the URLs may change
    return True

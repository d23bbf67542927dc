"""What `app.users.clear` does, through the driver alone."""

import asyncio
import os
import sys
from pathlib import Path

import asyncpg

from app.config import DATABASE_SCHEMA
from app.users.clear import CHUNK, read_ids


async def main(file: Path) -> None:
    """Delete in the same chunks."""
    with file.open() as lines:
        ids = read_ids(lines)
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        async with connection.transaction():
            for statement in ("notes WHERE user_id", "users WHERE id"):
                await connection.execute(f'DELETE FROM "{DATABASE_SCHEMA}".{statement} = ANY($1)', chunk)
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

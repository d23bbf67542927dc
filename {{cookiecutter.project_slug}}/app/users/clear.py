"""`python -m app.users.clear 1 2 3`: delete users, and show how a script uses the sessions of the service."""

import argparse
import asyncio
import sys
from array import array
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from rich.progress import track
from sqlalchemy import BigInteger, any_, delete, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import get_settings
from app.db import sessionmanager
from app.users.models import Note, User
from app.web import BIGINT_MAX

CHUNK = 5_000  # ids in a transaction: few round trips, short locks


async def clear_users_from_tables(session: AsyncSession, user_ids: Sequence[int]) -> int:
    """Delete the users with these ids and the rows that belong to them; return how many users there were.

    The ids go as one array parameter: `IN (...)` would be a new statement for each number of ids, and
    fails past 32,767 of them.
    """
    ids = any_(literal(user_ids, ARRAY(BigInteger)))
    # No object of these rows is in the session: there is nothing to synchronize.
    notes = delete(Note).where(Note.user_id == ids).execution_options(synchronize_session=False)
    await session.execute(notes)
    users = delete(User).where(User.id == ids).returning(User.id).cte()
    return await session.scalar(select(func.count()).select_from(users)) or 0  # counted by the server


async def count_users(session: AsyncSession, user_ids: Sequence[int]) -> int:
    """Return how many of these ids are users'."""
    ids = any_(literal(user_ids, ARRAY(BigInteger)))
    return await session.scalar(select(func.count()).select_from(User).where(User.id == ids)) or 0


async def process_user_data(user_ids: Sequence[int], *, dry_run: bool = False) -> int:
    """Clear the users in chunks, each its own transaction, and return how many there were.

    What was cleared before an error stays cleared: the same call again finishes the rest.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: a chunk failed and was rolled back.
    """
    process = count_users if dry_run else clear_users_from_tables
    found = 0
    sessionmanager.init_db(get_settings().for_script())
    try:
        starts = range(0, len(user_ids), CHUNK)
        for start in track(starts, "Clearing users", disable=not sys.stderr.isatty()):
            async with sessionmanager.session() as session:
                found += await process(session, user_ids[start : start + CHUNK])
    finally:
        await sessionmanager.close()
    return found


def read_ids(lines: Iterable[str]) -> Sequence[int]:
    """Return the ids, one from each line that is not blank. A million of them take 8 MB.

    Raises:
        ValueError: a line is not an id; the message has the number of the line.
    """
    ids = array("q")
    for number, line in enumerate(lines, start=1):
        if text := line.strip():
            try:
                ids.append(user_id(text))
            except argparse.ArgumentTypeError as error:
                raise ValueError(f"line {number}: {error}") from None
    return ids


def read_file(path: str) -> Sequence[int]:
    """Return the ids that the file holds; - is standard input."""
    if path == "-":
        return read_ids(sys.stdin)
    with Path(path).open(encoding="utf-8") as lines:
        return read_ids(lines)


def user_id(text: str) -> int:
    """Return the id that the text holds."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= BIGINT_MAX):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a user id (1 to {BIGINT_MAX}).")
    return int(text)


def main() -> None:
    """Read the command line, clear the users and say what was done."""
    parser = argparse.ArgumentParser(prog="python -m app.users.clear", description="Delete users by id.")
    parser.add_argument("ids", nargs="*", type=user_id, metavar="ID")
    parser.add_argument("--file", metavar="PATH", help="read ids from a file, one a line; -: standard input")
    parser.add_argument("--dry-run", action="store_true", help="count the users, delete nothing")
    arguments = parser.parse_args()
    if bool(arguments.ids) == bool(arguments.file):
        parser.error("give either ids or --file")
    try:
        given = sorted(arguments.ids or read_file(arguments.file))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    ids = array("q", (known for known, _ in groupby(given)))  # each once
    try:
        found = asyncio.run(process_user_data(ids, dry_run=arguments.dry_run))
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", error)
        sys.exit(f"The database failed: {cause}\nWhat was deleted before stays deleted.")
    print(f"{found} users {'would be ' * arguments.dry_run}deleted, {len(ids) - found} ids unknown.")


if __name__ == "__main__":
    main()

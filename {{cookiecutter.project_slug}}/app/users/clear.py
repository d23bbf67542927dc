"""Deletes users: `python -m app.users.clear --dry-run 1 2`. It shows how a script uses the sessions."""

import argparse
import asyncio
import fileinput
import sys
from array import array
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import groupby

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
    """Delete the users with these ids and the rows that belong to them; return how many users there were."""
    # One array parameter: `IN (...)` is a new statement for each number of ids, and fails past 32,767.
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

    A chunk that fails is rolled back. What was cleared before stays cleared: the same call finishes the rest.
    """
    process = count_users if dry_run else clear_users_from_tables
    found = 0
    sessionmanager.init_db(get_settings().for_script())
    try:
        for start in track(range(0, len(user_ids), CHUNK), "Users", disable=not sys.stderr.isatty()):
            async with sessionmanager.session() as session:
                found += await process(session, user_ids[start : start + CHUNK])
    finally:
        await sessionmanager.close()
    return found


def read_ids(lines: Iterable[str]) -> Sequence[int]:
    """Return the ids, one a line, in 8 bytes each. The ValueError of a wrong line has its number."""
    ids = array("q")
    for number, line in enumerate(lines, start=1):
        if text := line.strip():
            try:
                ids.append(user_id(text))
            except argparse.ArgumentTypeError as error:
                raise ValueError(f"line {number}: {error}") from None
    return ids


def user_id(text: str) -> int:
    """Return the id that the text holds."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= BIGINT_MAX):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a user id (1 to {BIGINT_MAX}).")
    return int(text)


def confirm(users: int) -> None:
    """Ask the person at the terminal, and end unless the answer is yes."""
    print(
        f"Delete {users} users from {get_settings().for_script().place}?",
        end=" [y/N] ",
        file=sys.stderr,
        flush=True,
    )
    answer = ""
    with suppress(KeyboardInterrupt):
        answer = sys.stdin.readline().strip().lower()
    if answer not in ("y", "yes"):
        sys.exit("Nothing was deleted.")


def main() -> None:
    """Read the command line, clear the users and say what was done."""
    parser = argparse.ArgumentParser(prog="python -m app.users.clear", description="Delete users by id.")
    parser.add_argument("ids", nargs="*", type=user_id, metavar="ID")
    parser.add_argument("--file", metavar="PATH", help="read ids from a file, one a line; -: standard input")
    parser.add_argument("--dry-run", action="store_true", help="count the users, delete nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask; without a terminal nobody is asked")
    arguments = parser.parse_args()
    if bool(arguments.ids) == bool(arguments.file):
        parser.error("give either ids or --file")
    try:
        if arguments.file:
            with fileinput.input(arguments.file, encoding="utf-8") as lines:
                arguments.ids = read_ids(lines)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    ids = array("q", (known for known, _ in groupby(sorted(arguments.ids))))  # each once
    try:
        if sys.stdin and sys.stdin.isatty() and not (arguments.yes or arguments.dry_run):
            confirm(asyncio.run(process_user_data(ids, dry_run=True)))
        found = asyncio.run(process_user_data(ids, dry_run=arguments.dry_run))
    except SQLAlchemyError as error:
        sys.exit(f"The database failed: {getattr(error, 'orig', error)}\nWhat was deleted stays deleted.")
    print(f"{found} users {'would be ' * arguments.dry_run}deleted, {len(ids) - found} ids unknown.")


if __name__ == "__main__":
    main()

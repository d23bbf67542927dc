"""The examples of docs/changing-tables.md: run while a service answers requests, and none of them fails.

What the page warns of is done as well, and does the harm that the page says.
"""

import asyncio
import re
import secrets
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from httpx2 import AsyncClient
from sqlalchemy import URL, MetaData, NullPool, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from app.config import get_settings
from app.db.connect_args import connect_args
from service.servers import Server, serving
from service.tools import PROJECT, eventually, on_server, text_of

PAGE = (PROJECT / "docs" / "changing-tables.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: ([\w-]+) -->\n```python\n(.*?)```\n", PAGE, re.DOTALL))
REVISION = """
import sqlalchemy as sa
from alembic import op

revision = {name!r}
down_revision = {after!r}


"""
IMPORTS = """
import enum

from sqlalchemy import BigInteger, Enum, Identity
from sqlalchemy.orm import Mapped, mapped_column

"""
# What the examples expect to be there already.
BEFORE = """
def upgrade() -> None:
    op.alter_column("users", "full_name", type_=sa.String(100))
    op.add_column("notes", sa.Column("editor_id", sa.BigInteger()))
"""


@dataclass
class Tables:
    """A database, and the revisions that have been applied to it."""

    url: URL
    revisions: Path
    head: str = "0001"

    def write(self, name: str, upgrade: str) -> None:
        """Write the next revision."""
        name = name.replace("-", "_")
        revision = REVISION.format(name=name, after=self.head) + upgrade
        (self.revisions / f"{name}.py").write_text(revision, encoding="utf-8")
        self.head = name

    def migrate(self, to: str = "head", **environment: str) -> None:
        """Run `alembic upgrade` or `alembic downgrade`."""
        config = Config(toml_file=PROJECT / "pyproject.toml")
        versions = (PROJECT / "migrations" / "versions", self.revisions)
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", "\n".join(map(str, versions)))
        with self.settings(**environment):
            (command.upgrade if to == "head" else command.downgrade)(config, to)

    async def apply(self, *examples: str) -> None:
        """Apply examples of the page, while the event loop goes on."""
        for name in examples:
            self.write(name, EXAMPLES[name])
        await asyncio.to_thread(self.migrate)

    @contextmanager
    def settings(self, **environment: str) -> Generator[None]:
        """Let the settings name this database."""
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in {"DATABASE_URL": text_of(self.url), **environment}.items():
                patch.setenv(variable, value)
            get_settings.cache_clear()
            try:
                yield
            finally:
                get_settings.cache_clear()

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncConnection]:
        """Open a transaction, with the search path of a migration. It is rolled back."""
        arguments = connect_args(get_settings().for_migrations())
        engine = create_async_engine(self.url, connect_args=arguments, poolclass=NullPool)
        async with engine.connect() as connection:
            yield connection

    async def rows(self, query: str) -> list[Any]:
        async with self.transaction() as connection:
            return list((await connection.execute(text(query))).all())

    async def execute(self, *statements: str) -> None:
        async with self.transaction() as connection:
            for statement in statements:
                await connection.execute(text(statement))
            await connection.commit()

    async def waiting(self) -> int:
        """Count the connections that wait for a lock."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        return int(await on_server(self.url, f"{query} AND wait_event_type = 'Lock'"))

    async def waits(self, connections: int) -> bool:
        return await self.waiting() == connections

    async def file_of(self, table: str) -> int:
        """Return the number of the file that holds the rows. A table that is rewritten gets a new one."""
        [[number]] = await self.rows(f"SELECT relfilenode FROM pg_class WHERE oid = '{table}'::regclass")
        return int(number)


@contextmanager
def tables_of(server: URL) -> Generator[Tables]:
    """Create a database with what the examples expect."""
    url = server.set(database=f"changing_{secrets.token_hex(6)}")
    asyncio.run(on_server(server, f"CREATE DATABASE {url.database}"))
    try:
        with TemporaryDirectory() as name:
            tables = Tables(url, Path(name))
            tables.write("before", BEFORE)
            tables.migrate()
            yield tables
    finally:
        asyncio.run(on_server(server, f"DROP DATABASE {url.database} WITH (FORCE)"))


@pytest.fixture
def tables(own_database: URL) -> Generator[Tables]:
    """A database of the test's own."""
    with tables_of(own_database) as tables:
        yield tables


@dataclass(frozen=True)
class Service:
    """The old code, on a database that several tests use: each leaves what the old code needs."""

    tables: Tables
    server: Server


@pytest.fixture(scope="module")
def service(own_database: URL) -> Generator[Service]:
    with tables_of(own_database) as tables, ExitStack() as stack:
        tables.write("public_id", EXAMPLES["not-null-add"])
        tables.migrate()
        yield Service(tables, stack.enter_context(served(tables)))


@contextmanager
def served(tables: Tables, folder: Path = PROJECT) -> Generator[Server]:
    with serving(environment={"DATABASE_URL": text_of(tables.url)}, folder=folder) as server:
        yield server


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[Callable[[str], str]], Path]:
    """Return a function that changes the models and the schemas of a copy of the application."""

    def change(edit: Callable[[str], str]) -> Path:
        shutil.copytree(PROJECT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("models.py", "schemas.py"):
            file = tmp_path / "app" / "users" / name
            file.write_text(edit(file.read_text(encoding="utf-8")), encoding="utf-8")
        return tmp_path

    return change


Change = Callable[[Callable[[str], str]], Path]


@dataclass
class Load:
    """Clients that write and read all the time."""

    statuses: Counter[int] = field(default_factory=Counter)
    rounds: Counter[str] = field(default_factory=Counter)  # of each client
    names: dict[str, str | None] = field(default_factory=dict)  # stored, by email address
    failures: set[str] = field(default_factory=set)
    running: bool = True

    async def use(self, server: Server, column: str | None) -> None:
        """Create users, change them, read them. The name of a user is in the column, if there is one."""
        client_id = secrets.token_hex(4)
        self.rounds[client_id] = 0
        async with AsyncClient(base_url=server.url, timeout=30) as client:

            async def ask(method: str, path: str, json: Any = None) -> Any:
                answer = await client.request(method, path, json=json)
                self.statuses[answer.status_code] += 1
                if answer.status_code >= 500:
                    self.failures.add(f"{method} {path}: {answer.text}")
                return answer.json() if answer.status_code < 300 else None

            while self.running:
                email = f"{client_id}.{self.rounds[client_id]}@example.com"
                first, second = ({"email": email, column or "_": email + end} for end in "ab")
                if user := await ask("POST", "/users", first):
                    self.names[email] = user.get(column)
                    if changed := await ask("PATCH", f"/users/{user['id']}", second):
                        self.names[email] = changed.get(column)
                        read = await ask("GET", f"/users/{user['id']}")
                        assert read in (None, changed)
                await ask("GET", "/users?limit=5")
                self.rounds[client_id] += 1

    async def go_on(self) -> None:
        """Wait until each client has asked some more."""
        before = self.rounds.copy()

        async def more() -> bool:
            return all(self.rounds[client] >= before[client] + 3 for client in self.rounds)

        assert await eventually(more)


@asynccontextmanager
async def asked(*servers: Server | tuple[Server, str | None]) -> AsyncGenerator[Load]:
    """Ask the servers all the time, two clients each."""
    load = Load()
    async with asyncio.TaskGroup() as clients:
        for each in servers:
            server, column = each if isinstance(each, tuple) else (each, "full_name")
            for _ in range(2):
                clients.create_task(load.use(server, column))
        await asyncio.sleep(0)  # each client is counted
        await load.go_on()
        yield load
        await load.go_on()
        load.running = False


async def assert_nothing_was_lost(load: Load, tables: Tables, column: str = "full_name") -> None:
    stored = dict(map(tuple, await tables.rows(f"SELECT email, {column} FROM users")))
    assert load.names.items() <= stored.items()


SAFE = ["nullable", "constant-default", "longer-text", "index", "unique", "foreign-key"]
EXPAND = ["not-null-add", "rename-add", "rename-fill"]
CONTRACT = ["not-null-fill", "not-null", "rename-end", "drop-column", "drop-table"]
ENUM = ["enum-table", "enum-column", "enum-member", "enum-use"]
LIMIT = {"DATABASE_LOCK_TIMEOUT": "3"}  # of a migration that the test makes wait


def test_every_example_is_tested() -> None:
    assert set(EXAMPLES) == {*SAFE, *EXPAND, *CONTRACT, *ENUM, "not-null-model", "enum-model"}


@pytest.mark.parametrize("example", SAFE)
async def test_a_safe_change_fails_no_request_and_rewrites_no_row(service: Service, example: str) -> None:
    before = await service.tables.file_of("users")
    async with asked(service.server) as load:
        await service.tables.apply(example)
    assert await service.tables.file_of("users") == before
    await assert_nothing_was_lost(load, service.tables)
    if example == "longer-text":  # at most once for each of the connections, which the clients share
        assert load.statuses.keys() <= {200, 201, 503}
        assert 1 <= load.statuses[503] <= 2 * len(load.rounds)
    else:
        assert load.statuses.keys() == {200, 201}, load.failures


async def test_changes_in_steps_fail_no_request_of_old_or_new_code(tables: Tables, changed: Change) -> None:
    """All of them in one release. The renamed column is the column that is dropped."""

    def edit(code: str) -> str:
        with_id = re.sub(r"( +full_name: Mapped.*\n)", rf"\1{EXAMPLES['not-null-model']}", code)
        return "import uuid\n" + with_id.replace("full_name", "name")

    far = "VALUES (12345, 'far@example.com', 'x')"  # several chunks away from the others
    await tables.execute(f"INSERT INTO users (id, email, full_name) OVERRIDING SYSTEM VALUE {far}")
    with served(tables) as old, served(tables, changed(edit)) as new:
        async with asked(old) as of_old:
            await tables.apply(*EXPAND)
        assert await tables.rows("SELECT name FROM users WHERE id = 12345") == [("x",)]
        async with asked(old, (new, "name")) as of_both:
            pass
        await assert_nothing_was_lost(of_both, tables, "full_name")
        await assert_new_reads_old_and_old_reads_new(old, new)
        async with asked((new, "name")) as of_new:
            await tables.apply(*CONTRACT)
        async with asked(old) as too_early:  # for the last revisions: this code still runs
            pass
        assert httpx2.get(f"{old.url}/users/1/notes").status_code == 500
    for load in (of_old, of_both, of_new):
        assert load.statuses.keys() == {200, 201}, load.failures
        await assert_nothing_was_lost(load, tables, "name")
    assert too_early.statuses.keys() == {500}
    columns = "SELECT column_name, is_nullable FROM information_schema.columns WHERE table_name = 'users'"
    found = dict(map(tuple, await tables.rows(columns)))
    assert found["public_id"] == "NO"
    assert "full_name" not in found
    assert await tables.rows("SELECT to_regclass('notes')") == [(None,)]


async def assert_new_reads_old_and_old_reads_new(old: Server, new: Server) -> None:
    async with AsyncClient() as client:
        for (writer, written), (reader, read) in permutations([(old, "full_name"), (new, "name")]):
            data = {"email": f"{written}@example.com", written: "x"}
            user = (await client.post(f"{writer.url}/users", json=data)).raise_for_status().json()
            path = f"/users/{user['id']}"
            assert (await client.get(reader.url + path)).raise_for_status().json()[read] == "x"
            await client.patch(writer.url + path, json={written: None})
            assert (await client.get(reader.url + path)).raise_for_status().json()[read] is None


@pytest.mark.parametrize(
    ("changes", "undo", "statuses"),
    [
        (["RENAME full_name TO name"], "RENAME name TO full_name", {500}),
        (["ADD needed TEXT NOT NULL DEFAULT ''", "ALTER needed DROP DEFAULT"], "DROP needed", {200, 500}),
    ],
    ids=["rename", "not-null"],  # in the second case, reads go on
)
async def test_what_the_old_code_does_not_know_fails_its_requests(
    service: Service, changes: list[str], undo: str, statuses: set[int]
) -> None:
    await service.tables.execute(*(f"ALTER TABLE users {change}" for change in changes))
    try:
        async with asked(service.server) as load:
            pass
    finally:
        await service.tables.execute(f"ALTER TABLE users {undo}")
    assert load.statuses.keys() == statuses


async def test_not_null_without_a_default_fails_if_there_are_rows(service: Service) -> None:
    await new_user(service)
    with pytest.raises(DBAPIError, match="contains null values"):
        await service.tables.execute("ALTER TABLE users ADD needed TEXT NOT NULL")


async def new_user(service: Service) -> int:
    """Create a user, and return its id."""
    async with AsyncClient(base_url=service.server.url) as client:
        created = await client.post("/users", json={"email": f"{secrets.token_hex(6)}@example.com"})
    return int(created.raise_for_status().json()["id"])


KEY = "FOREIGN KEY (editor_id) REFERENCES users (id)"
CHECK = "CHECK (email <> '')"
EVERYTHING = {"create a user", "create a note", "read a user"}
BLOCKED = {  # the requests that wait until the statement has ended
    "CREATE INDEX slow ON users (created_at)": {"create a user"},
    "ALTER TABLE users ADD CONSTRAINT slow UNIQUE (public_id)": EVERYTHING,
    "ALTER TABLE users ALTER email SET NOT NULL": EVERYTHING,
    "ALTER TABLE users ADD slow UUID DEFAULT gen_random_uuid()": EVERYTHING,
    f"ALTER TABLE users ADD CONSTRAINT slow {CHECK}": EVERYTHING,
    f"ALTER TABLE notes ADD CONSTRAINT slow {KEY}": {"create a user", "create a note"},
    "ALTER TABLE notes VALIDATE CONSTRAINT a_key": set(),
    "ALTER TABLE users VALIDATE CONSTRAINT a_check": set(),
}


@pytest.mark.parametrize("statement", BLOCKED)
async def test_a_statement_blocks_the_requests_that_the_page_names(service: Service, statement: str) -> None:
    user_id, tables = await new_user(service), service.tables
    constraints = {"notes": f"a_key {KEY}", "users": f"a_check {CHECK}"}
    await tables.execute(
        *(f"ALTER TABLE {name} ADD CONSTRAINT {each} NOT VALID" for name, each in constraints.items())
    )
    async with AsyncClient(base_url=service.server.url, timeout=30) as client:
        async with tables.transaction() as connection:
            await connection.execute(text(statement))
            email = f"{secrets.token_hex(6)}@example.com"
            requests = {
                "create a user": client.post("/users", json={"email": email}),
                "create a note": client.post(f"/users/{user_id}/notes", json={"body": "x"}),
                "read a user": client.get(f"/users/{user_id}"),
            }
            tasks = {name: asyncio.create_task(request) for name, request in requests.items()}

            async def settled() -> bool:
                return await tables.waiting() + sum(task.done() for task in tasks.values()) == len(tasks)

            assert await eventually(settled)
            blocked = {name for name, task in tasks.items() if not task.done()}
        assert {(await task).status_code for task in tasks.values()} == {200, 201}
    await tables.execute(
        "ALTER TABLE notes DROP CONSTRAINT a_key", "ALTER TABLE users DROP CONSTRAINT a_check"
    )
    assert blocked == BLOCKED[statement]


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("ALTER TABLE users ADD slow UUID DEFAULT gen_random_uuid()", "users"),
        ("ALTER TABLE users ADD slow TIMESTAMPTZ DEFAULT clock_timestamp()", "users"),
        ("ALTER TABLE notes ALTER editor_id TYPE INTEGER", "notes"),
    ],
)
async def test_a_statement_that_the_page_warns_of_rewrites_the_table(
    service: Service, statement: str, table: str
) -> None:
    file = text(f"SELECT pg_relation_filenode('{table}')")
    async with service.tables.transaction() as connection:
        before = await connection.scalar(file)
        await connection.execute(text(statement))
        assert await connection.scalar(file) != before


async def test_set_not_null_reads_the_table_unless_a_check_is_valid(service: Service) -> None:
    scans = text("SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relid = 'users'::regclass")
    async with service.tables.transaction() as connection:
        await connection.execute(text("UPDATE users SET full_name = 'x' WHERE id > 0"))
        await connection.execute(text("ALTER TABLE users ADD CONSTRAINT c CHECK (full_name IS NOT NULL)"))
        before = await connection.scalar(scans)
        await connection.execute(text("ALTER TABLE users ALTER full_name SET NOT NULL"))
        assert await connection.scalar(scans) == before
        await connection.execute(text("ALTER TABLE users DROP CONSTRAINT c, ALTER full_name DROP NOT NULL"))
        await connection.execute(text("ALTER TABLE users ALTER full_name SET NOT NULL"))
        assert await connection.scalar(scans) > before


async def test_a_migration_that_waits_blocks_requests_fails_and_can_run_again(service: Service) -> None:
    user_id, tables = await new_user(service), service.tables
    tables.write("wait", "def upgrade() -> None:\n    op.add_column('users', sa.Column('waited', sa.Text()))")
    async with AsyncClient(base_url=service.server.url) as client, tables.transaction() as connection:
        await connection.execute(text("SELECT FROM users"))
        migration = asyncio.create_task(asyncio.to_thread(tables.migrate, **LIMIT))
        assert await eventually(lambda: tables.waits(1))
        request = asyncio.create_task(client.get(f"/users/{user_id}", timeout=30))
        assert await eventually(lambda: tables.waits(2))
        with pytest.raises((CommandError, DBAPIError), match="canceling statement due to lock timeout"):
            await migration
        assert (await request).status_code == 200
    await asyncio.to_thread(tables.migrate)
    assert await tables.rows("SELECT waited FROM users LIMIT 1") == [(None,)]


@pytest.mark.parametrize(
    ("example", "name"), [("index", "ix_users_created_at"), ("unique", "uq_users_public_id")]
)
async def test_an_index_that_waits_blocks_nobody_and_can_be_created_again(
    service: Service, example: str, name: str
) -> None:
    user_id, tables, again = await new_user(service), service.tables, f"{example}_again"
    tables.write(again, EXAMPLES[example].replace(name, again))
    valid = f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{again}'::regclass"
    async with tables.transaction() as connection:
        await connection.execute(text("UPDATE users SET full_name = 'x' WHERE id = 0"))
        migration = asyncio.create_task(asyncio.to_thread(tables.migrate, **LIMIT))
        assert await eventually(lambda: tables.waits(1))
        async with AsyncClient(base_url=service.server.url, timeout=30) as client:
            assert (await client.patch(f"/users/{user_id}", json={"full_name": "x"})).status_code == 200
        assert not migration.done()
        with pytest.raises((CommandError, DBAPIError), match="canceling statement due to lock timeout"):
            await migration
        assert await tables.rows(valid) == [(False,)]
    await asyncio.to_thread(tables.migrate)
    assert await tables.rows(valid) == [(True,)]


@pytest.mark.parametrize(
    ("example", "constraint", "wrong", "right"),
    [
        (
            "foreign-key",
            "fk_notes_editor_id",
            "INSERT INTO notes (user_id, body, editor_id) VALUES (1, 'x', 2)",
            "UPDATE notes SET editor_id = NULL",
        ),
        (
            "not-null",
            "public_id_is_set",
            "UPDATE users SET public_id = NULL",
            "UPDATE users SET public_id = gen_random_uuid()",
        ),
    ],
    ids=["foreign-key", "not-null"],
)
async def test_a_constraint_that_old_rows_violate_holds_for_new_rows_until_it_is_valid(
    tables: Tables, example: str, constraint: str, wrong: str, right: str
) -> None:
    await tables.apply("not-null-add")
    await tables.execute("INSERT INTO users (email) VALUES ('ada@example.com')", wrong)
    with pytest.raises((CommandError, DBAPIError), match=r"violates foreign key|is violated by some row"):
        await tables.apply(example)
    valid = f"SELECT convalidated FROM pg_constraint WHERE conname = '{constraint}'"
    assert await tables.rows(valid) == [(False,)]
    for _ in range(2):
        with pytest.raises(DBAPIError, match="violates"):
            await tables.execute(wrong)
        await tables.execute(right)
        await asyncio.to_thread(tables.migrate)


class Base(DeclarativeBase):
    """The base of the model that only the page has."""

    metadata = MetaData(schema=get_settings().database_schema)


@pytest.fixture(scope="module")
def shirt() -> Any:
    """The model of the page, which has an enum type."""
    names: dict[str, Any] = {"Base": Base}
    exec(IMPORTS + EXAMPLES["enum-model"], names)
    return names["Shirt"]


async def test_an_enum_type_goes_up_and_down_and_up_again(tables: Tables, shirt: Any) -> None:
    for name in ENUM:
        tables.write(name, EXAMPLES[name])
    for step in ("head", "enum_table", "head", "before", "head"):
        await asyncio.to_thread(tables.migrate, step)
    async with tables.transaction() as connection:
        await connection.execute(insert(shirt).values(color="RED"))
        assert (await connection.scalars(select(shirt.color))).one().name == "RED"
        await connection.execute(text("INSERT INTO shirts DEFAULT VALUES"))
        with pytest.raises(LookupError, match="'BLUE' is not among the defined enum values"):
            (await connection.scalars(select(shirt.color))).all()


async def test_without_drop_type_a_second_upgrade_fails(tables: Tables) -> None:
    tables.write("enum_table", EXAMPLES["enum-table"].replace('op.execute("DROP TYPE color")', ""))
    for step in ("head", "before"):
        await asyncio.to_thread(tables.migrate, step)
    with pytest.raises((CommandError, DBAPIError), match='type "color" already exists'):
        await asyncio.to_thread(tables.migrate)

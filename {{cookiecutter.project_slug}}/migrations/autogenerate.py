"""What autogenerate compares: the models, and of the database only what the models have.

Everything else in the database is left alone: it may belong to somebody else. `alembic -x drop=NAME revision
--autogenerate` drops a thing that no model has: a table (`notes`), or a column, an index or a constraint of a
table (`users.full_name`, `users.ix_users_email`). Several names are separated by commas.
"""

import logging
import re
from functools import cached_property
from typing import Any, Literal

from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import DropTableOp, MigrateOperation, MigrationScript
from alembic.runtime.plugins import Plugin
from alembic.util import CommandError, DispatchPriority, PriorityDispatchResult
from sqlalchemy import (
    ARRAY,
    BLANK_SCHEMA,
    JSON,
    Connection,
    DefaultClause,
    ForeignKeyConstraint,
    MetaData,
    Table,
    TypeDecorator,
    inspect,
    make_url,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import sort_tables
from sqlalchemy.types import NullType, SchemaType, TypeEngine

from app.db.connect_args import DRIVER

logger = logging.getLogger("alembic.runtime.migration")  # env.py shows it
CAST = re.compile(r"::[\w .\[\]\"]+$|(?<=')::\w+")  # the type that PostgreSQL shows of a text
POSTGRESQL = make_url(DRIVER).get_dialect()()


def as_revisions_have_it(models: MetaData) -> MetaData:
    """Return the tables of the models, without the name of the configured schema.

    A revision runs in the schema that DATABASE_SCHEMA names. Other schemas keep their names.
    """
    metadata, schema = MetaData(naming_convention=models.naming_convention), models.schema

    def referred_schema(_table: Table, _to: Any, _constraint: Any, referred: str | None) -> Any:
        return BLANK_SCHEMA if referred == schema else referred

    for table in models.sorted_tables:
        to: Any = None if table.schema == schema else table.schema  # None is allowed, though not annotated
        copy = table.to_metadata(metadata, schema=to, referred_schema_fn=referred_schema)
        for column in table.columns:
            copy.columns[column.key].type = type_of_revision(column.type, schema)
    return metadata


def type_of_revision(kind: TypeEngine[Any], schema: str | None) -> TypeEngine[Any]:
    """Return the type without the configured schema. A class of the owner's is what it is in PostgreSQL."""
    if isinstance(kind, ARRAY):
        kind = kind.copy()
        kind.item_type = type_of_revision(kind.item_type, schema)
    elif isinstance(kind, TypeDecorator) and not is_of_sqlalchemy(kind):
        return type_of_revision(kind.load_dialect_impl(POSTGRESQL), schema)
    elif isinstance(kind, SchemaType):
        kind = kind.copy()
        kind.schema, kind.metadata = None if kind.schema == schema else kind.schema, None
    return kind


def is_of_sqlalchemy(kind: object) -> bool:
    """Tell whether a revision names this type by `sa.` or `postgresql.`."""
    return type(kind).__module__.startswith("sqlalchemy.")


def render_type(what: str, item: Any, context: AutogenContext) -> str | Literal[False]:
    """Import a type of a library in the revision that names it. This is Alembic's `render_item`."""
    if isinstance(item, NullType):  # of a column whose type SQLAlchemy does not know
        return "sa.types.NullType()"
    if what == "type" and not is_of_sqlalchemy(item):
        context.imports.add(f"import {type(item).__module__}")
    return False  # written as Alembic writes it


def compare_default(
    _context: Any, operation: Any, _schema: Any, _table: Any, _name: Any, stored: Any, model: Any
) -> PriorityDispatchResult:
    """Compare defaults as texts where Alembic's comparison fails: a type without `=`, a quote in the text."""
    old, new = stored.server_default, model.server_default
    if not (isinstance(old, DefaultClause) and isinstance(new, DefaultClause)):
        return PriorityDispatchResult.CONTINUE
    literal_binds = {"literal_binds": True}
    text = new.arg if isinstance(new.arg, str) else str(new.arg.compile(None, compile_kwargs=literal_binds))
    has_no_equal = isinstance(stored.type, JSON | NullType) and not isinstance(stored.type, JSONB)
    if not has_no_equal and not (isinstance(new.arg, str) and "'" in text):
        return PriorityDispatchResult.CONTINUE
    literal = "'" + text.replace("'", "''") + "'"
    if CAST.sub("", str(old.arg)) not in (CAST.sub("", text), literal):
        operation.modify_server_default = new
    return PriorityDispatchResult.STOP


PLUGIN = Plugin("service.defaults")
PLUGIN.add_autogenerate_comparator(
    compare_default, "column", "server_default", priority=DispatchPriority.FIRST
)


def parts_of(key: ForeignKeyConstraint) -> tuple[Any, ...]:
    """Return what a foreign key is, without the schema of the table that it names."""
    targets = [element.target_fullname.rsplit(".", 2)[-2:] for element in key.elements]
    options = (key.ondelete, key.onupdate, key.deferrable, key.initially, key.match)
    return [column.name for column in key.columns], targets, [str(option).upper() for option in options]


class OnlyOfModels:
    """Alembic's filters `include_name` and `include_object`: they hide what no model has."""

    def __init__(self, connection: Connection, metadata: MetaData, schema: str, drop: set[str]) -> None:
        self.tables = {(table.schema, table.name) for table in metadata.sorted_tables}
        self.schemas = {schema for schema, _ in self.tables} | {None}
        self.connection, self.schema = connection, schema
        self.drop = drop
        self.dropped: set[str] = set()
        self.left: set[str] = set()
        self.removed = MetaData()

    @cached_property
    def own(self) -> set[str]:
        """The tables of the configured schema. Another schema of the search path may have the same names."""
        return {*inspect(self.connection).get_table_names(schema=self.schema)} - {"alembic_version"}

    def include_name(self, name: str | None, kind: str, parents: Any) -> bool:
        """Hide schemas and tables before Alembic looks at them."""
        if kind == "schema":
            return name in self.schemas
        if kind != "table":
            return True
        schema = parents["schema_name"]
        if schema is None and name not in self.own:
            return False
        return (schema, name) in self.tables or self.is_to_drop(parents["schema_qualified_table_name"])

    def include_object(self, item: Any, name: str | None, kind: str, reflected: object, other: Any) -> bool:
        """Hide columns, indexes and constraints that only the database has."""
        if kind == "table" and reflected and other is None:
            self.removed = item.metadata
        if kind == "foreign_key_constraint" and other is not None and parts_of(item) == parts_of(other):
            return False  # PostgreSQL does not show a schema that is on the search path
        if kind == "table" or not reflected or other is not None:
            return True
        return self.is_to_drop(item.table.fullname, name)

    def is_to_drop(self, table: str, part: str | None = None) -> bool:
        """Tell whether a drop was asked for. If not, note what is left alone."""
        name = f"{table}.{part}" if part else table
        self.dropped |= (asked := self.drop & {table, name})
        if not asked:
            self.left.add(name)
        return bool(asked)

    def sort_drops(self, script: MigrationScript) -> None:
        """Drop a table before the tables that its foreign keys name. Alembic drops in any order."""
        tables = self.removed.tables

        def leads_to_a_table_that_stays(key: Any) -> bool:
            return key.target_fullname.rpartition(".")[0] not in tables

        drops = sort_tables(tables.values(), skip_fn=leads_to_a_table_that_stays)
        order = [table.fullname for table in drops]

        def place(step: MigrateOperation) -> int:
            return -order.index(step.to_table().fullname) if isinstance(step, DropTableOp) else -len(order)

        if order and script.upgrade_ops:
            script.upgrade_ops.ops.sort(key=place)
            script.downgrade_ops = script.upgrade_ops.reverse()

    def report(self) -> None:
        """Log what is left alone.

        Raises:
            CommandError: a name that was to be dropped is not in the database, or a model has it.
        """
        if unknown := self.drop - self.dropped:
            raise CommandError(
                f"drop={','.join(sorted(unknown))}: there is nothing to drop by this name. Allowed: what no "
                "model has, a table (notes) or a column, an index or a constraint (users.full_name)."
            )
        if self.left:
            names = sorted(self.left)
            example = f"To drop: alembic -x drop={names[0]} revision --autogenerate"
            logger.warning("Left alone, because no model has them: %s. %s", ", ".join(names), example)

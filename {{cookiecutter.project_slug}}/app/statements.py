"""What a statement does, as far as its text shows."""

import re
from functools import lru_cache

# A query begins so, and has none of the other words, outside of comments and quotes.
QUERY = re.compile(r"[\s(]*(?:SELECT|WITH|VALUES|TABLE|SHOW|EXPLAIN)\b", re.IGNORECASE)
# INSERT and MERGE are always followed by INTO; FOR UPDATE and FOR SHARE lock rows; EXPLAIN may run a CREATE.
WRITE = re.compile(
    r"(?<![.\w])(?:INTO|UPDATE|DELETE|CREATE|FOR\s+(?:KEY\s+)?SHARE)\b(?!\s*\.)", re.IGNORECASE
)
QUOTED = re.compile(
    r"--[^\n]*|/\*[\s\S]*?\*/|\bE'(?:[^'\\]|\\.|'')*'|'[^']*'|\"[^\"]*\"|\$(\w*)\$[\s\S]*?\$\1\$",
    re.IGNORECASE,
)
# What a transaction ends with, after comments. ROLLBACK TO goes back to a savepoint, and ends nothing.
END = re.compile(
    r"(?:[\s;]|--[^\n]*|/\*[\s\S]*?\*/)*+"
    r"(?:COMMIT|END|ABORT|PREPARE\s+TRANSACTION|ROLLBACK(?!\s+(?:(?:WORK|TRANSACTION)\s+)?TO\b))\b",
    re.IGNORECASE,
)


@lru_cache(maxsize=1_000)
def is_query(statement: str) -> bool:
    """Tell whether the SQL only reads, as far as its text shows: a function that it calls may write."""
    bare = QUOTED.sub(" ", statement)
    return QUERY.match(bare) is not None and WRITE.search(bare) is None


def ends_transaction(statement: str) -> bool:
    """Tell whether the SQL commits or rolls back."""
    return END.match(statement) is not None

"""The database sessions: what a route, a script and a model need. The modules of this folder are private.

In a route, `session: SessionDep` commits before the response is sent. `session: ReadSessionDep` reads.
Elsewhere: `async with sessionmanager.session() as session:`.
"""

from app.db.base import Base, import_models
from app.db.connect_args import quoted
from app.db.dependencies import ReadSessionDep, SessionDep, get_db, get_read_db
from app.db.driver import driver_connection, own_connection
from app.db.errors import SessionError, UnitOfWorkOpenError
from app.db.pool import answers_aside
from app.db.sessions import DatabaseSessionManager, sessionmanager
from app.db.startup import check_server
from app.db.telemetry import origin

__all__ = [
    "Base",
    "DatabaseSessionManager",
    "ReadSessionDep",
    "SessionDep",
    "SessionError",
    "UnitOfWorkOpenError",
    "answers_aside",
    "check_server",
    "driver_connection",
    "get_db",
    "get_read_db",
    "import_models",
    "origin",
    "own_connection",
    "quoted",
    "sessionmanager",
]

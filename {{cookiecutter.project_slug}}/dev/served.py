"""The application as `python -m dev` serves it: its process ends with the one that reloads it."""

from app.main import app
from dev.parent import end_with_parent

__all__ = ["app"]

end_with_parent()

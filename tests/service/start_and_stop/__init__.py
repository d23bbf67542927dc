"""Settings, URLs, roles, `python -m dev`, and how the service starts and ends."""

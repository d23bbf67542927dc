"""What goes wrong in production, done on purpose to a real server process and a real PostgreSQL."""

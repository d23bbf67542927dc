"""What it takes more than one machine for: PgBouncer, a replica, several instances."""

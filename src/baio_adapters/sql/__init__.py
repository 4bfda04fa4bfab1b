"""Storage in SQLite or PostgreSQL, through one synchronous SQLAlchemy Core code path."""

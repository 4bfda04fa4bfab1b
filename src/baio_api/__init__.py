"""BAiO over HTTP, and its command line: the one place where ports and adapters meet."""

"""BAiO's own tools, and the process in which all tools run."""

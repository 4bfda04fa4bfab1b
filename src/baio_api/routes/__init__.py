"""The endpoints, one module per first segment of the path."""

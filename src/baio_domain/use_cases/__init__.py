"""What a caller can do. A use case is stateless: a frozen dataclass of ports whose call is one act."""

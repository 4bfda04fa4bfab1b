"""The endpoints, by the first part of their path."""

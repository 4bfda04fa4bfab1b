"""The domain: entities, rules, ports and use cases. It imports only the standard library."""

"""The JSON of requests and responses, a module for each subject: exactly the keys that clients rely on (R2).

Structs check shape; the domain checks meaning. ``examples`` are those of the OpenAPI document, by name.
"""

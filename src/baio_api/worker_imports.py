"""What workers share: imported once, by the process that they are forked from (see ``server.py``)."""

import gc

import baio_api.app
from baio_api.lean_imports import lean_imports

with lean_imports("watchfiles"):
    import uvicorn.loops.uvloop
    import uvicorn.supervisors

__all__ = ["baio_api", "uvicorn"]

gc.freeze()  # a collection would write to the pages that are shared

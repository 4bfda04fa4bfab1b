"""What every command of the tests has imported before it starts; see processes.py."""

import gc

import alembic.command
import alembic.config
import httptools
import uvicorn
import uvloop

import baio_adapters.llm.anthropic
import baio_adapters.llm.local
import baio_adapters.llm.openai
import baio_adapters.sql.migrations
import baio_api.app
import baio_api.cli
import baio_api.server
import baio_api.terminal
from baio_adapters.biology import installed_tools

__all__ = ["alembic", "baio_adapters", "baio_api", "httptools", "uvicorn", "uvloop"]

installed_tools()

gc.freeze()  # what is here already stays shared with the processes that are forked

"""A toolbox that plays scripted outcomes, for tests of everything except the tools."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import final

from baio_domain.entities import SequenceContent, StoredSequence
from baio_domain.sequence_files import FileContents, Part, SequenceFile, SequenceFiles, read_file, write_part
from baio_domain.tool_calls import unknown_tool
from baio_domain.tools import NOTHING_GIVEN, GivenSequence, Toolbox, ToolOutcome, ToolSpec, ToolState

ECHO = ToolSpec(
    "echo",
    1,
    "Repeats a text. Use it for nothing else.",
    "The text as it is.",
    {
        "type": "object",
        "properties": {"text": {"type": "string", "description": "The text."}},
        "required": ["text"],
    },
)

Step = ToolOutcome | asyncio.Event
"""One step of a script: an event to wait for, or the outcome, which is the last."""


@final
class ScriptedToolbox(Toolbox, SequenceFiles):
    """Plays one script for each call, in order, and reads and writes files at once.

    Without a script, a call is done and its result are its arguments.
    """

    def __init__(self, *specs: ToolSpec) -> None:
        self._specs = specs or (ECHO,)
        self.asked: list[tuple[str, dict[str, object]]] = []
        self.given: list[dict[str, GivenSequence]] = []
        self.cancelled = 0
        self.closed = False
        self._scripts: deque[tuple[Step, ...]] = deque()

    def script(self, *steps: Step) -> None:
        """Queue a script for the next call that has none yet."""
        self._scripts.append(steps)

    def specs(self) -> Sequence[ToolSpec]:
        """The specs it was made with."""
        return self._specs

    async def run(
        self, name: str, arguments: Mapping[str, object], given: Mapping[str, GivenSequence] = NOTHING_GIVEN
    ) -> ToolOutcome:
        """Play the next script."""
        self.asked.append((name, dict(arguments)))
        self.given.append(dict(given))
        if name not in (spec.name for spec in self._specs):
            return unknown_tool(name, (spec.name for spec in self._specs), arguments)
        try:
            for step in self._scripts.popleft() if self._scripts else ():
                await asyncio.sleep(0)  # like a real toolbox, never answer immediately
                if isinstance(step, ToolOutcome):
                    return step
                await step.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return ToolOutcome(ToolState.DONE, arguments, dict(arguments), line=f"{name}: **done**")

    async def read(self, file: SequenceFile) -> FileContents:
        """Read it in this process."""
        return read_file(file)

    async def write(self, sequence: StoredSequence, content: SequenceContent, part: Part) -> bytes:
        """Write it in this process."""
        return write_part(sequence, content, part)

    async def aclose(self) -> None:
        """Note that it was closed."""
        self.closed = True

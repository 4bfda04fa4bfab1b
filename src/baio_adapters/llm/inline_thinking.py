"""Thinking that a server leaves in the text: between ``<think>`` and ``</think>`` at the beginning of an answer.

Servers do so that have no parser for the model's reasoning. Elsewhere in an answer, the tags are text.
"""

_TAGS = {
    "<think>": "</think>",  # DeepSeek, Qwen and many others
    "<thinking>": "</thinking>",  # Nova
    "<thought>": "</thought>",  # Gemini
    "<seed:think>": "</seed:think>",  # Seed-OSS
    "[THINK]": "[/THINK]",  # Magistral
    "<|channel>thought": "<channel|>",  # Gemma
    "<|channel|>analysis<|message|>": "<|end|><|start|>assistant<|channel|>final<|message|>",  # gpt-oss
}
"""How thinking begins and ends."""

_AFTER_THINKING = {**_TAGS, **{closing: closing for closing in _TAGS.values()}}


class InlineThinking:
    """Tells thinking from text, however the pieces of an answer are cut. ``over`` says that the rest is text."""

    __slots__ = ("_closing", "_held", "_tags", "_thought", "over")

    def __init__(self) -> None:
        self._tags = _TAGS
        self._held = ""  # what the next piece decides
        self._closing = ""  # the tag that ends the thinking, once it has begun
        self._thought = False  # whether the thinking has ended
        self.over = False

    def thought_elsewhere(self) -> None:
        """Note that there was thinking outside of the text. Some servers leave its closing tag in the text."""
        self._tags = _AFTER_THINKING

    def split(self, piece: str) -> tuple[str, str]:
        """The thinking and the text that are certain with this piece; the text comes after the thinking."""
        self._held += piece
        if not self._closing and not self._begins():
            return "", self._release() if self.over else ""
        thinking = "" if self._thought else self._take_thinking()
        if self._thought:
            self._held = self._held.lstrip()
            self.over = bool(self._held)
        return thinking, self._release() if self.over else ""

    def rest(self) -> tuple[str, str]:
        """What was held, if the answer ends here."""
        self.over = True
        held = self._release()
        return (held, "") if self._closing and not self._thought else ("", held)

    def _begins(self) -> bool:
        """Whether the thinking has begun; sets ``over`` if it does not."""
        start = self._held.lstrip()
        tag = next((tag for tag in self._tags if start.startswith(tag)), None)
        if tag is None:
            self.over = not any(tag.startswith(start) for tag in self._tags)
            return False
        self._closing = self._tags[tag]
        self._held = start if tag == self._closing else start.removeprefix(tag)
        return True

    def _take_thinking(self) -> str:
        thinking, closing, after = self._held.partition(self._closing)
        if closing:
            self._thought, self._held = True, after
            return thinking
        # The end of the piece may be the beginning of the tag.
        lengths = range(min(len(self._closing) - 1, len(thinking)), 0, -1)
        kept = next((length for length in lengths if thinking.endswith(self._closing[:length])), 0)
        self._held = thinking[len(thinking) - kept :]
        return thinking[: len(thinking) - kept]

    def _release(self) -> str:
        held, self._held = self._held, ""
        return held

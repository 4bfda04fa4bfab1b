"""The title that a conversation gets from its first question, or that a model suggests."""

import pytest

from baio_domain.entities import Caller, Usage
from baio_domain.errors import InvalidInput, ProviderBroken, ProviderTooSlow, QuestionNotFound
from baio_domain.ports import Finished
from baio_domain.titles import TITLE_LENGTH, title_in, title_of
from tests.unit.world import BAiO, later, text_of

# ruff: noqa: RUF001 - marks that look like others are among them
TITLES = {
    "What is a codon?": "What is a codon?",
    "Explain splicing. Then compare it.": "Explain splicing",
    "Is c.68_69del in snp.vcf.gz? If so, where": "Is c.68_69del in snp.vcf.gz?",
    "Compare these: ACGT, ACGA": "Compare these",
    "\n\n  ## **BRCA1**\n\nand more": "BRCA1",
    "Hva er\u00a0en\thjernecelle\nsom dør": "Hva er en hjernecelle",
    "```\nACGT\n```": "ACGT",
    "/gc_content ACGT": "/gc_content ACGT",
    "細胞とは何ですか？それから": "細胞とは何ですか？",
    "???": "",
    "word " * 20: f"{'word ' * 11}word…",
    "x" * 59 + " yes": "x" * 59 + "…",
    "x" * 200: "x" * 59 + "…",
    "x" * 60: "x" * 60,
    "a\x07b": "a\ufffdb",
    "How does E. coli repair DNA? And yeast?": "How does E. coli repair DNA?",
    "Compare p53 vs. MDM2, e.g. in yeast. Why?": "Compare p53 vs. MDM2, e.g. in yeast",
    "Salmonella spp. and others. Which?": "Salmonella spp. and others",
    "1. Align them.\n2. Count.": "1. Align them",
    "Summarise https://example.org/a?b=c please. Now": "Summarise https://example.org/a?b=c please",
    "```python\nprint(1)\n```\nWhy?": "print(1)",
    "~~~ r\nx <- 1\n~~~": "x <- 1",
    "\u200b\ufeffWhat is\u202e PCR": "What is PCR",
    "می\u200cخواهم بدانم": "می\u200cخواهم بدانم",
    "ما هو الجين؟ اشرح": "ما هو الجين؟",
    "जीन क्या है। बताओ": "जीन क्या है।",
    "a\u0301" * 60: "a\u0301" * 29 + "…",
}


@pytest.mark.parametrize(("question", "title"), TITLES.items(), ids=range(len(TITLES)))
def test_a_title_is_the_first_clause_in_whole_words(question: str, title: str) -> None:
    assert title_of(question) == title
    assert len(title) <= TITLE_LENGTH


async def title(baio: BAiO, caller: Caller, conversation: int) -> str:
    return str((await baio.get_conversation(caller, conversation)).title)


async def test_a_conversation_without_title_gets_one_from_its_first_question_and_is_found_by_it(
    baio: BAiO, caller: Caller
) -> None:
    conversation = await baio.begin(caller, "")
    await text_of(await baio.ask(caller, conversation, "What is a codon? Be brief."))
    assert await title(baio, caller, conversation) == "What is a codon?"
    await text_of(await baio.ask(caller, conversation, "And an exon?"))
    assert await title(baio, caller, conversation) == "What is a codon?"
    await baio.rename_conversation(caller, conversation, "")
    await text_of(await baio.ask(caller, conversation, "And an intron?"))
    assert await title(baio, caller, conversation) == ""


async def test_a_title_that_is_there_stays(baio: BAiO, caller: Caller) -> None:
    for given in ("New Research Topic", " "):
        conversation = await baio.begin(caller, given)
        await text_of(await baio.ask(caller, conversation, "What is a codon?"))
        assert await title(baio, caller, conversation) == given


async def test_a_question_that_is_refused_gives_no_title(baio: BAiO, caller: Caller) -> None:
    conversation = await baio.begin(caller, "")
    with pytest.raises(Exception, match="key"):
        await baio.send_message(
            caller, conversation_id=conversation, apikey_nickname="none", content="What?", model="gpt-4o"
        )
    assert await title(baio, caller, conversation) == ""


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ("Codons: what they are\n\nBecause ...", "Codons: what they are"),
        ("\u201cCodons\u201d", "Codons"),
        ("## **Codons**", "Codons"),
        ('"Codons"\n', "Codons"),
        ("word " * 20, f"{'word ' * 11}word\u2026"),
        ("\n ?! \n", ""),
    ],
)
def test_a_suggested_title_is_the_first_line_of_the_answer(answer: str, title: str) -> None:
    assert title_in(answer) == title


async def asked_conversation(baio: BAiO, caller: Caller) -> int:
    conversation = await baio.begin(caller, "")
    await text_of(await baio.ask(caller, conversation, "What is a codon?" + " Say more." * 1000))
    return conversation


async def counted(baio: BAiO, caller: Caller) -> list[tuple[int, int, int, bool]]:
    """The rows of the ledger for the model that is asked for titles."""
    rows = [each.usage for each in await baio.get_usage(caller, None, None) if each.usage.model == "gpt-4o"]
    return [(row.answers, row.prompt_tokens, row.completion_tokens, row.estimated) for row in rows]


async def test_a_model_suggests_a_title_from_the_first_question_only_and_it_is_counted(
    baio: BAiO, caller: Caller
) -> None:
    conversation = await asked_conversation(baio, caller)
    baio.openai.script("Codons", " and more", Finished("stop", usage=Usage(61, 7)))
    found = await baio.suggest_title(caller, conversation, "OpenAI Key", "gpt-4o")
    assert (found.title, found.usage) == ("Codons and more", Usage(61, 7))
    [turn] = baio.openai.asked[-1].prompt
    assert "What is a codon?" in turn.content
    assert len(turn.content) < 5000
    assert await title(baio, caller, conversation) == "What is a codon?"  # nothing is renamed
    assert await counted(baio, caller) == [(1, 61, 7, False)]


async def test_key_and_model_are_those_of_the_settings_and_otherwise_required(baio: BAiO, caller: Caller) -> None:
    conversation = await asked_conversation(baio, caller)
    with pytest.raises(InvalidInput) as refused:
        await baio.suggest_title(caller, conversation)
    assert [error.field for error in refused.value.errors] == ["apikey_nickname", "model"]
    await baio.change_settings(caller, conversation, {"apikey_nickname": "OpenAI Key", "model": "gpt-4o"})
    baio.openai.script("Codons", Finished("stop"))
    assert (await baio.suggest_title(caller, conversation)).usage is None
    assert [row[3] for row in await counted(baio, caller)] == [True]


async def test_without_a_question_or_a_title_there_is_none(baio: BAiO, caller: Caller) -> None:
    with pytest.raises(QuestionNotFound):
        await baio.suggest_title(caller, await baio.begin(caller, ""), "OpenAI Key", "gpt-4o")
    conversation = await asked_conversation(baio, caller)
    baio.openai.script("...", Finished("stop"))
    with pytest.raises(ProviderBroken):
        await baio.suggest_title(caller, conversation, "OpenAI Key", "gpt-4o")
    baio.openai.script(later(100), "Codons", Finished("stop"))
    with pytest.raises(ProviderTooSlow):
        await baio.suggest_title(caller, conversation, "OpenAI Key", "gpt-4o")

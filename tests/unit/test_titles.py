"""The title that a conversation gets from its first question."""

import pytest

from baio_domain.entities import Caller
from baio_domain.titles import TITLE_LENGTH, title_of
from tests.unit.world import BAiO, text_of

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

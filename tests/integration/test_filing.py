"""A sidebar over HTTP: conversations that are found, tagged, pinned and archived."""

from tests.integration.servers import User, named


def test_a_sidebar_finds_and_files_conversations(user: User) -> None:
    first, second, third = (user.begin() for _ in range(3))
    order = {"updated_at", "tags", "pinned", "archived"}
    filed = user.http.post("/chat/tagConversation/", json={"conversation_id": first, "tags": ["PCR", "BRCA1"]}).json()
    assert set(filed) == order
    assert filed["tags"] == ["BRCA1", "PCR"]
    assert user.http.post("/chat/pinConversation/", json={"conversation_id": first, "pinned": True}).json()["pinned"]
    archived = {"conversation_id": third, "archived": True}
    assert user.http.post("/chat/archiveConversation/", json=archived).json()["archived"]
    page = user.http.get("/chat/findConversations/", params={"limit": 1}).json()
    assert page["conversations"][0]["snippet"] is None
    assert list(page) == ["conversations", "next"]
    assert [each["id"] for each in page["conversations"]] == [first]
    assert set(page["conversations"][0]) >= {"id", "title", "created_at", *order}
    rest = user.http.get("/chat/findConversations/", params={"limit": 1, "before": page["next"]}).json()
    assert [each["id"] for each in rest["conversations"]] == [second]
    assert rest["next"] is None
    queries: list[tuple[dict[str, str], list[int]]] = [
        ({"tag": "PCR"}, [first]),
        ({"archived": "true"}, [third]),
        ({"tag": "none"}, []),
        ({"query": "no such words"}, []),
        ({"query": "?"}, []),
    ]
    for query, found in queries:
        listed = user.http.get("/chat/findConversations/", params=query).json()["conversations"]
        assert [each["id"] for each in listed] == found
    assert user.http.get("/chat/getTags/").json() == [
        {"tag": "BRCA1", "conversations": 1},
        {"tag": "PCR", "conversations": 1},
    ]
    wrong: dict[str, str | int] = {"limit": 101, "before": "%00\x00", "tag": "\x00"}
    assert named(user.http.get("/chat/findConversations/", params=wrong)) == {"limit", "before", "tag"}
    body = {"conversation_ids": [second, 2**40]}
    assert user.http.post("/chat/deleteConversations/", json=body).json() == {"deleted": 1, "not_found": [2**40]}
    unclear: list[dict[str, object]] = [{}, {"conversation_ids": [first], "archived": True}]
    for each in unclear:
        assert named(user.http.post("/chat/deleteConversations/", json=each)) == {"conversation_ids", "archived"}
    exported = {each["id"]: each for each in user.http.get("/user/exportData/").json()["conversations"]}
    assert exported[first] | filed | {"pinned": True} == exported[first]
    assert exported[third]["archived"]


def test_a_question_and_its_answer_are_found_by_their_words(asker: User, other: User) -> None:
    conversation = asker.begin("BRCA1")
    assert asker.ask(conversation, "What does NM_007294.4 mean?").status_code == 200
    for query, snippet in (("nm 0072", "What does NM_007294.4 mean?"), ("nucleotid", "A codon is three nucleotides.")):
        [found] = asker.http.get("/chat/findConversations/", params={"query": query}).json()["conversations"]
        assert (found["id"], found["snippet"]) == (conversation, snippet)
    [found] = asker.http.get("/chat/findConversations/", params={"query": "brca1"}).json()["conversations"]
    assert (found["id"], found["snippet"]) == (conversation, None)
    for query in ("nm 0072", "brca1"):
        assert other.http.get("/chat/findConversations/", params={"query": query}).json()["conversations"] == []

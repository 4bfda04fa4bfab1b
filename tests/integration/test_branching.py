"""Branches over HTTP: the endpoint, the ids of messages, and where the answer to an earlier question is."""

from tests.integration.scripted_provider import ScriptedProvider
from tests.integration.servers import User, problem


def test_a_conversation_is_branched_by_the_id_of_a_message_and_its_earlier_question_asked_again(
    user: User, provider: ScriptedProvider
) -> None:
    del provider
    user.add_key()
    conversation = user.begin("Codons")
    for question in ("What is a codon?", "And a stop codon?"):
        assert user.ask(conversation, question).status_code == 200
    where = {"conversation_id": conversation}
    plain = user.http.get("/chat/getConversation/", params=where).json()
    numbered = user.http.get("/chat/getConversation/", params={**where, "ids": "true"}).json()["messages"]
    assert [{k: v for k, v in each.items() if k != "id"} for each in numbered] == plain["messages"]
    both = user.http.get("/chat/getConversation/", params={**where, "ids": "true", "answers": "true"}).json()
    assert [each["id"] for each in both["messages"]] == [each["id"] for each in numbered]
    assert all(each["answer_id"] for each in both["messages"] if each["role"] == "baio")

    body = {**where, "message_id": numbered[3]["id"]}
    once = {"Idempotency-Key": "once"}
    made = user.http.post("/chat/branchConversation/", json=body, headers=once)
    assert made.status_code == 201
    assert made.json()["title"] == "Codons"
    assert user.http.post("/chat/branchConversation/", json=body, headers=once).json() == made.json()
    assert user.messages(made.json()["id"]) == user.messages(conversation)[:3]
    assert len(user.http.get("/chat/getAnswers/", params={"conversation_id": made.json()["id"]}).json()) == 1
    refused = user.http.post("/chat/branchConversation/", json={**where, "message_id": 2**62})
    assert problem(refused, 404)["type"].endswith("message-not-found")

    again = {**where, "apikey_nickname": "OpenAI Key", "model": "gpt-4o", "message_id": numbered[2]["id"]}
    answered = user.http.post("/chat/regenerateAnswer/", json=again)
    branch = int(answered.headers["X-Conversation-ID"])
    assert branch not in (conversation, made.json()["id"])
    assert [role for role, _ in user.messages(branch)] == ["system", "user", "baio"]
    last = user.http.post("/chat/regenerateAnswer/", json={**again, "message_id": numbered[3]["id"]})
    assert last.headers["X-Conversation-ID"] == str(conversation)
    assert user.http.get("/chat/getConversation/", params=where).json()["messages"][:3] == plain["messages"][:3]

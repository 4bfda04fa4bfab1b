"""How long conversations are kept, over HTTP."""

from tests.integration.servers import User


def test_a_temporary_conversation_says_when_it_goes_and_can_be_kept(user: User) -> None:
    assert user.http.get("/user/getRetention/").json() == {
        "keep_days": None, "keep_allowed": True, "temporary_days": 1,
    }  # fmt: skip
    made = user.http.post("/chat/createConversation/", json={"title": "A question", "temporary": True})
    assert made.json().keys() == {"id", "title", "messages"}
    where = {"conversation_id": made.json()["id"]}
    told = user.http.get("/user/getRetention/", params=where).json()["conversation"]
    assert (told["kept"], told["temporary"]) == (False, True)
    [exported] = user.http.get("/user/exportData/").json()["conversations"]
    assert {name: exported[name] for name in ("kept", "temporary", "goes_at")} == {
        name: told[name] for name in ("kept", "temporary", "goes_at")
    }
    kept = user.http.post("/chat/keepConversation/", json=where)
    assert kept.json() == {**where, "kept": True, "temporary": True, "goes_at": None}
    undone = user.http.post("/chat/keepConversation/", json={**where, "kept": False})
    assert undone.json() == told

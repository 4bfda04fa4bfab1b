"""The contract's examples, by operation: what is sent (by a name for each spelling) and what comes back."""

from typing import Any

_PROFILE = {
    "first_name": "Ole",
    "last_name": "Normann",
    "country": "Norway",
    "affiliation": "University of Bergen",
    "position": "scientist",
    "field_of_study": "AI researcher",
}
_ACCOUNT = {
    "first_name": "Ole",
    "last_name": "Normann",
    "username": "olenor",
    "email": "ole.normann@example.no",
    "country": "Norway",
    "affiliation": "University of Bergen",
    "position": "scientist",
    "field_of_study": "AI researcher",
}
_SYSTEM = "You are BAiO, a chat bot who is an expert on biology and genomic data."
_OPENAI = {
    "id": 1,
    "name": "OpenAI",
    "models": [
        {"id": 1, "name": "GPT-4o"},
        {"id": 2, "name": "GPT-4o mini"},
        {"id": 3, "name": "OpenAI o1-preview"},
        {"id": 4, "name": "OpenAI o1-mini"},
    ],
}

EXAMPLES: dict[str, tuple[dict[str, Any] | None, Any]] = {
    "register": ({"contract": {**_ACCOUNT, "password": "oleSterktPassord123"}}, _ACCOUNT),
    "auth": (
        {
            "contract": {"username": "olenor", "password": "oleSterktPassord123"},
            "withTwoFactor": {"username": "olenor", "password": "oleSterktPassord123", "code": "492039"},
        },
        {"refresh": "%REFRESH_TOKEN%", "access": "%ACCESS_TOKEN%"},
    ),
    "refresh": ({"contract": {"refresh": "%REFRESH_TOKEN%"}}, {"access": "%NEW_ACCESS_TOKEN%"}),
    "validateToken": ({"contract": {"token": "%ACCESS_TOKEN%"}}, {"valid": True}),
    "getInfo": (None, _ACCOUNT),
    "updateInfo": ({"contract": _PROFILE}, _PROFILE),
    "getConversation": (
        None,
        {
            "id": 1,
            "title": "Research Discussion",
            "messages": [
                {"role": "system", "content": _SYSTEM, "created_at": "2024-01-15T10:00:00.000001Z"},
                {
                    "role": "user",
                    "content": "What are the key aspects of AI in genomics?",
                    "created_at": "2024-01-15T10:01:00.000001Z",
                },
                {
                    "role": "baio",
                    "content": "Key aspects include predictive analysis, data integration, etc.",
                    "created_at": "2024-01-15T10:02:00.000001Z",
                },
            ],
        },
    ),
    "deleteAccount": (
        {
            "contract": {"password": "oleSterktPassord123"},
            "withTwoFactor": {"password": "oleSterktPassord123", "code": "492039"},
        },
        "Account deleted",
    ),
    "logout": ({"contract": {"refresh": "%REFRESH_TOKEN%"}}, "Signed out"),
    "logoutEverywhere": (None, "Signed out everywhere"),
    "getSessions": (
        None,
        [
            {
                "id": 12,
                "created_at": "2024-01-15T10:00:00.000001Z",
                "last_used_at": "2024-01-15T10:45:00.000001Z",
                "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
                "current": True,
            }
        ],
    ),
    "enrollTwoFactor": (
        {"contract": {"password": "oleSterktPassord123"}},
        {
            "secret": "%SECRET%",
            "otpauth_uri": "otpauth://totp/BAiO:olenor?secret=%SECRET%&issuer=BAiO&algorithm=SHA1&digits=6&period=30",
            "qr_svg": "<svg ...>",
        },
    ),
    "confirmTwoFactor": (
        {"contract": {"code": "492039"}},
        {"recovery_codes": ["%RECOVERY_CODE%"] * 10},
    ),
    "disableTwoFactor": (
        {"contract": {"password": "oleSterktPassord123", "code": "492039"}},
        "Two-factor authentication disabled",
    ),
    "getTwoFactor": (None, {"enabled": True, "recovery_codes_left": 9}),
    "updateCredentials": (
        {
            "contract": {
                "current_password": "oleSterktPassord123",
                "code": "492039",
                "email": "ole.normann@example.no",
            }
        },
        _ACCOUNT,
    ),
    "resetPassword": (
        {"contract": {"token": "%TOKEN%", "password": "oleSterktPassord123"}},
        "Password changed",
    ),
    "getConversations": (
        None,
        [
            {"id": 1, "title": "Research Discussion", "created_at": "2024-01-15T10:00:00.000001Z"},
            {"id": 2, "title": "Project Meeting", "created_at": "2024-01-14T11:30:00.000001Z"},
        ],
    ),
    "createConversation": (
        {"contract": {"title": "New Research Topic"}},
        {
            "id": 3,
            "title": "New Research Topic",
            "messages": [{"role": "system", "content": _SYSTEM, "created_at": "2024-01-15T09:00:00.000001Z"}],
        },
    ),
    "renameConversation": (
        {"contract": {"conversation_id": 1, "title": "Updated Discussion"}},
        "Conversation successfully renamed to Updated Discussion",
    ),
    "deleteConversation": ({"contract": {"conversation_id": 1}}, "Conversation with id=1 successfully deleted"),
    "addAPIKey": (
        {
            "contract": {"key": "sk-...", "nickname": "OpenAI Key"},
            "webClient": {"name": "OpenAI Key", "apiProvider": "1", "apiKey": "sk-..."},
        },
        {"nickname": "OpenAI Key", "user": 1},
    ),
    "getApiKeys": (
        None,
        [{"nickname": "OpenAI Key", "provider": _OPENAI, "created_at": "2024-10-27T14:23:35.321000Z"}],
    ),
    "deleteAPIKey": ({"contract": {"nickname": "OpenAI Key"}}, "API key OpenAI Key successfully deleted"),
    "renameAPIKey": (
        {"contract": {"nickname": "OpenAI Key", "new_nickname": "Lab Key"}},
        "API key successfully renamed to Lab Key",
    ),
    "testAPIKey": (
        {"contract": {"nickname": "OpenAI Key"}},
        {"nickname": "OpenAI Key", "valid": True, "reason": "OpenAI accepts the key."},
    ),
    "getUsage": (
        None,
        [
            {
                "date": "2026-01-31",
                "provider": "OpenAI",
                "model": "gpt-4o-mini",
                "answers": 12,
                "prompt_tokens": 5210,
                "completion_tokens": 3904,
                "estimated": False,
            }
        ],
    ),
    "getLLMProviders": (None, [_OPENAI]),
    "sendMessage": (
        {
            "contract": {
                "conversation_id": 1,
                "apikey_nickname": "OpenAI Key",
                "content": "What are the applications of AI in genomics?",
                "model": "gpt-4o-mini",
            }
        },
        "AI is applied in genomics to variant calling, ...",
    ),
    "regenerateAnswer": (
        {"contract": {"conversation_id": 1, "apikey_nickname": "OpenAI Key", "model": "gpt-4o"}},
        "AI is applied in genomics to variant calling, ...",
    ),
    "followAnswer": (None, "to variant calling, ..."),
    "stopAnswer": ({"contract": {"conversation_id": 1}}, {"answer_id": 7, "state": "stopped"}),
    "getAnswers": (
        None,
        [
            {
                "id": 7,
                "state": "truncated",
                "requested_model": "gpt-4o-mini",
                "model": "gpt-4o-mini-2024-07-18",
                "finish_reason": "length",
                "prompt_tokens": 42,
                "completion_tokens": 120,
                "started_at": "2024-01-15T10:01:00.000001Z",
                "ended_at": "2024-01-15T10:02:00.000001Z",
                "reason": "longest-answer",
            }
        ],
    ),
}

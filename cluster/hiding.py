"""What people and logs may see of a job: texts and settings without passwords, tokens and keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

HIDDEN: Final = "***"

# Parts of names that suggest a secret. A path is none: PGPASSFILE, DB_PASSWORD_FILE, RAY_AUTH_TOKEN_PATH.
_PARTS: Final = (
    r"SECRET|CREDENTIAL|PASSW|PASSPHRASE|PASSCODE|WEBHOOK|CONN(?:ECTION)?_?STR|(?:TOKEN|KEY)(?![A-Z])"
    r"|(?<!BY)(?<!COM)PASS(?![A-Z])|(?<=\w)(?<!OLD)PWD(?![A-Z])|(?<![A-Z])(?:DSN|AUTH|PW|PAT|JWT)(?!\w)"
)
_NAME: Final = rf"(?![\w.-]*[_-](?:PATH|FILE|DIR)(?!\w))[\w.-]*?(?:{_PARTS})[\w.-]*"
_VALUE: Final = r"""(?!\.\.\.)(?:(["'])(?:(?!\2).)*\2|[^\s"'&]+)"""
_SECRET: Final = re.compile(_NAME, re.IGNORECASE)
_GIVEN: Final = re.compile(  # NAME=value, --name value and "name": "value"
    rf"""((?<![\w.-])(?:{_NAME}=|--{_NAME}[ ]+|(?:"{_NAME}"|'{_NAME}'):\s*)){_VALUE}""", re.IGNORECASE
)
_LOGIN: Final = re.compile(r"""(://)(?:([^/\s:@"']*:)[^\s"']+|[^/\s:@"']{20,})(?=@)""")  # user:password@ and TOKEN@


def holds_login(text: str) -> bool:
    """Return whether a text holds an address with a password or a token."""
    return _LOGIN.search(text) is not None


def visible_text(text: str) -> str:
    """Return a text without the values of what is named like a secret, and without logins in addresses."""
    text = _LOGIN.sub(lambda match: f"{match[1]}{match[2] or ''}{HIDDEN}", text)
    return _GIVEN.sub(lambda match: f"{match[1]}{match[2] or ''}{HIDDEN}{match[2] or ''}", text)


def visible_words(words: Iterable[str]) -> list[str]:
    """Return the words of a command without secrets, those that follow an option named like one included."""
    visible: list[str] = []
    is_value = False
    for word in words:
        visible.append(HIDDEN if is_value else visible_text(word))
        is_value = word.startswith("--") and _SECRET.fullmatch(word[2:]) is not None
    return visible


def without_secrets(value: Any) -> Any:
    """Return settings, nested at any depth, with what is named like a secret hidden, and the logins in texts."""
    if isinstance(value, Mapping):
        return {name: HIDDEN if _SECRET.fullmatch(str(name)) else without_secrets(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(item) for item in value]
    return visible_text(value) if isinstance(value, str) else value

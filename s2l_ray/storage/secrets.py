"""Keys and passwords in URIs: refused where a URI comes in, starred where a text goes out."""

import os
import re
from urllib.parse import unquote, urlsplit, urlunsplit

from s2l_ray.errors import InputError

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]{1,19}:/+"  # pathlib leaves one slash of two
_NO_PORT = r"(?!\d{1,5}(?:[/?#&,;)\]}'\"\s]|$))"
_NAME = r"[?&;#][^?&;#=\s]{1,80}="
_LOGINS = (
    # s3://key:secret@, scheme://host:port/ and scheme://user:secret@, ?endpoint=key:secret@, https://token@
    re.compile(r"((?:s3|gs|gcs|abfss?):/+[^/?#@:\s]{0,200}:)[^\n@]{1,200}(?=@)", re.IGNORECASE),
    re.compile(rf"({_SCHEME}[^/?#@:\s]{{0,200}}:){_NO_PORT}[^\n@]{{1,200}}(?=@)"),
    re.compile(rf"({_NAME}(?:{_SCHEME})?[^/?&;#@:\s]{{0,200}}:){_NO_PORT}[^?&;#\n@]{{1,200}}(?=@)"),
    re.compile(r"(https?:/+)[^/?#@\s]{1,200}(?=@)", re.IGNORECASE),
)
_PARAMETER = re.compile(rf"({_NAME})[^?&;#\s\"'<>]*")
_SECRET = re.compile(r"secret|token|passw|passphrase|signature|credential|authorization|bearer"
                     r"|(access|account|api|private|shared|session)keys?|^(sig|sas|key|auth|pass|pwd|pw|jwt)$")
_HARMLESS = {"credentialkind"}  # Azure's: which way to log in
_STARS = "***"


def refuse_secret(text: str) -> None:
    """Refuse a text with a URI that holds a key, a password, a token or a signature, without repeating it.

    Raises
    ------
    InputError
        It would end in manifests, logs and error messages.
    """
    for form in (text, unquote(text)):
        if redacted(form) != form:
            raise InputError(
                "a storage or data URI holds a key or password (before an @, or in a parameter such as token= or "
                "sig=): remove it, and give it in the environment"
            )


def redacted(text: str) -> str:
    """Return a text with what is secret in its URIs starred."""
    if not re.search(_SCHEME, text):
        return text
    for login in _LOGINS:
        text = login.sub(rf"\1{_STARS}", text)
    return _PARAMETER.sub(_starred, text)


def _starred(found: re.Match[str]) -> str:
    name = re.sub(r"[^a-z0-9]", "", unquote(found[1]).lower())
    return found[1] + _STARS if _SECRET.search(name) and name not in _HARMLESS else found[0]


def login_taken_out(variable: str, user: str, password: str) -> str:
    """Return the URI in an environment variable, after its login has moved to two variables of its own.

    What uses it finds the login there, while the URI may be told, and kept.

    Raises
    ------
    InputError
        It is malformed, or holds a secret that cannot be moved: of another scheme than http(s), or a parameter.
    """
    uri = os.environ[variable]
    try:
        parts = urlsplit(uri)
        login, at, host = parts.netloc.rpartition("@")
        if at and parts.scheme in ("http", "https"):
            name, _, word = login.partition(":")
            uri = urlunsplit(parts._replace(netloc=host))
            refuse_secret(uri)
            os.environ.update({variable: uri, user: unquote(name), password: unquote(word)})
        refuse_secret(uri)
    except ValueError:  # urlsplit's repeats the URI, so it is not chained
        raise InputError(
            f"{variable} is malformed, or holds a key or password other than https://user:password@host: give it "
            f"without, and set {user} and {password}; for a database, what its driver reads (PGPASSWORD)"
        ) from None
    return uri

"""Keys and passwords in URIs: found whatever their form, and nothing else is: .venv/bin/pytest tests/storage/test_secrets.py"""

import importlib.util
import os
import string
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2l_ray.errors import InputError
from s2l_ray.progress.notes import note
from s2l_ray.recipe.loading import load_recipe
from s2l_ray.storage.files import resolve
from s2l_ray.storage.secrets import login_taken_out, redacted, refuse_secret
from s2l_ray.sweep.tracking import check_tracking

PLANTED = "plantedKey0f1e2d3c"
FORMS = {
    "a password": "s3://AKIA:{}@bucket/x", "no user": "s3://:{}@bucket/x", "hdfs": "hdfs://me:{}@host:8020/x",
    "an encoded colon": "s3://AKIA%3A{}@bucket/x", "a secret with a slash": "s3://AKIA:ab/{}@bucket/x",
    "a secret with a question mark": "s3://AKIA:ab?{}@bucket/x", "one slash": "s3:/AKIA:{}@bucket/x",
    "a token for a user": "https://{}@host/x", "a token in capitals": "HTTPS://{}@host/x",
    "a login in a parameter": "s3://bucket/x?endpoint_override=me:{}@host:9000&scheme=http",
    "an encoded login in a parameter": "s3://bucket/x?endpoint_override=http%3A%2F%2Fme%3A{}%40host",
    "a secret of digits, then a slash": "s3://AKIA:1/{}@bucket/x", "digits, then a plus": "hdfs://me:12+{}@host/x",
    "a secret of digits and more": "s3://AKIA:12{}@bucket/x",
    "after a blank": "s3://bucket/x y?token={}", "a fragment": "s3://bucket/x#token={}",
    "the second parameter": "s3://bucket/x?region=eu-1&secret_key={}", "an encoded name": "s3://bucket/x?s%65cret_key={}",
    "a semicolon": "s3://bucket/x;password={}", "two question marks": "s3://bucket/x?region=a?token={}",
    "not malformed for Arrow": "s3://bucket/a%zz?sig={}", "an unknown scheme": "foo://bucket/x?sig={}",
}
NAMES = ["sas_token", "sig", "access_key", "secret_key", "token", "password", "X-Amz-Signature", "X-Amz-Credential",
         "X-Amz-Security-Token", "AWSAccessKeyId", "Signature", "X-Goog-Signature", "account_key", "client_secret", "sas",
         "SharedAccessKey", "api_key", "key", "auth", "PASSWD", "session-token", "private_key", "Authorization"]
FORMS |= {f"parameter {name}": f"s3://bucket/x?{name}={{}}" for name in NAMES}

FINE = [
    "s3://bucket/x?endpoint_override=127.0.0.1:9000&scheme=http&region=us-east-1", "s3://bucket/a:b@c/x", "gs://anonymous@bucket/x",
    "abfs://container@account.dfs.core.windows.net/x?enable_tls=true&credential_kind=default", "hdfs://host:8020/x@y",
    "hdfs://me@host:8020/user?replication=3", "http://127.0.0.1:8265", "https://host.example:8265/path@x", "s3://bucket",
    "/data/secret?token=1/x", "data/key=3/a@b:c.jsonl", "file:///data/a:b@c", "C:/x:y@z?token=1", "me@host: the key is here", "",
    "s3://bucket/x?endpoint_override=http%3A%2F%2Fhost%3A9000&allow_bucket_creation=true", "org/model@main:x",
]
VALUES = st.text(string.ascii_letters + string.digits + "+_-~.", min_size=12, max_size=60)


def secret_in(text):
    return PLANTED in text


@pytest.mark.parametrize("form", FORMS)
def test_a_planted_key_is_refused_and_starred_not_repeated(form):
    uri = FORMS[form].format(PLANTED)
    with pytest.raises(InputError, match="holds a key or password") as caught:
        refuse_secret(uri)
    assert not secret_in(str(caught.value)) and caught.value.__cause__ is None
    if "%3A" not in uri:
        assert not secret_in(redacted(f"OSError: cannot read {uri}, try again"))


@given(st.sampled_from(sorted(FORMS)), VALUES)
def test_whatever_the_key_is(form, value):
    uri = FORMS[form].format(quote(value))
    with pytest.raises(InputError) as caught:
        refuse_secret(uri)
    assert value not in str(caught.value)


@given(st.text(max_size=30), st.sampled_from(sorted(FORMS)), st.text(max_size=30))
def test_whatever_stands_around_it(before, form, after):
    with pytest.raises(InputError):
        refuse_secret(f"{before} {FORMS[form].format(PLANTED)} {after}")


@pytest.mark.parametrize("uri", FINE)
def test_what_is_no_secret_is_left_alone(uri):
    refuse_secret(uri)
    assert redacted(uri) == uri


@given(st.text(string.ascii_lowercase + string.digits + "/._-@ ", max_size=40), st.integers(1, 65535))
def test_paths_and_ports_are_no_secrets(path, port):
    for uri in (f"s3://bucket/{path}?endpoint_override=host:{port}&scheme=http&region=x", f"hdfs://host:{port}/{path}"):
        refuse_secret(uri)
        assert redacted(uri) == uri


@pytest.mark.parametrize("text", ["a:/" * 300_000, "a" * 1_000_000 + "://", "x://" + "?a=" * 300_000, "x://" + "&a" * 400_000,
                                  "x://" + "a:" * 400_000])
def test_a_long_text_costs_no_time(text):
    started = time.monotonic()
    refuse_secret(text)
    assert time.monotonic() - started < 3


def test_arrow_never_sees_what_its_messages_would_repeat():
    with pytest.raises(Exception, match=PLANTED):
        __import__("pyarrow.fs").fs.FileSystem.from_uri(f"s3://bucket/x y?token={PLANTED}")
    with pytest.raises(InputError) as caught:
        resolve(f"s3://bucket/x y?token={PLANTED}")
    assert not secret_in(str(caught.value))


# --- the ways out ------------------------------------------------------------------------------------


def test_what_is_said_is_starred(capsys):
    note(f"failed: HTTPError: 403 for url: https://cdn.example/x?X-Amz-Signature={PLANTED}&x=1 and redis://:{PLANTED}@host")
    said = capsys.readouterr().err
    assert not secret_in(said) and "https://cdn.example/x?X-Amz-Signature=***&x=1 and redis://:***@host" in said


# --- the one that comes from the environment ---------------------------------------------------------


@pytest.fixture
def tracked(monkeypatch):
    """A recipe tracked by mlflow, which is taken for installed."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name == "mlflow" else find_spec(name))
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "another")
    return load_recipe("quickstart-sweep", ["sweep.tracking=mlflow"])


def test_the_trackers_login_moves_out_of_its_address(tracked, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://me%40x:{PLANTED}%2F1@mlflow.example:5000/path?x=1")
    for _ in range(2):  # once for the plan, once for each use
        check_tracking(tracked)
        found = [os.environ[f"MLFLOW_TRACKING_{name}"] for name in ("URI", "USERNAME", "PASSWORD")]
        assert found == ["https://mlflow.example:5000/path?x=1", "me@x", f"{PLANTED}/1"]


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "/data/mlruns", "sqlite:////data/mlflow.db", "databricks"])
def test_an_address_without_a_login_stays(uri, tracked, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    check_tracking(tracked)
    assert (os.environ["MLFLOW_TRACKING_URI"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == (uri, "another")


@pytest.mark.parametrize("form", ["postgresql://me:{}@host/db", "https://host/x?token={}", "https://a:b@host/x?token={}", "http://[{}@/"])
def test_a_password_that_cannot_move_is_refused(form, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", form.format(PLANTED))
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI is malformed, or holds") as caught:
        login_taken_out("MLFLOW_TRACKING_URI", "USER_OF_TEST", "PASSWORD_OF_TEST")
    assert not secret_in(str(caught.value)) and "PASSWORD_OF_TEST" not in os.environ

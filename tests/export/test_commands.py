"""`s2l export` and `s2l push`, the hub being a small server of this machine: .venv/bin/pytest tests/export/test_commands.py"""

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import DatasetCard

from s2l_ray.cli.main import main
from s2l_ray.recipe.loading import load_recipe


def run(capsys, *words):
    """Return the exit code, the lines of stdout and all of stderr."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    said = capsys.readouterr()
    return ended.value.code, said.out.strip().splitlines(), said.err


def test_export_prints_the_one_command_and_says_what_changed(runs, rows, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri = runs.run([rows["thinking"], rows["preference"]] * 2, "messages+preference")
    code, out, err = run(capsys, "export", uri, "--to", "ms-swift")
    folder = f"export/{uri.rpartition('/')[2]}-ms-swift"
    found = json.loads(out[-1])
    assert code == 0 and out[-2] == found["command"] == f"cd {folder} && swift sft train.yaml"
    assert found["folder"] == folder and found["rows"] == 4 and (tmp_path / folder / "train.jsonl").is_file()
    assert "<think> ... </think> (2 rows)" in err and "rejected is no part of the conversation and stays behind (2 rows)" in err
    code, _, err = run(capsys, "export", uri, "--to", "ms-swift")
    assert code == 2 and "is there already" in err
    code, out, _ = run(capsys, "export", uri, "--to", "ms-swift", "--arm", "random")
    assert code == 0 and json.loads(out[-1])["folder"] == f"{folder.removesuffix('-ms-swift')}-random-ms-swift"


def test_what_has_no_place_is_exit_2_and_leaves_nothing(runs, rows, capsys, tmp_path):
    uri = runs.run([rows["messages"], rows["weights"]])
    code, _, err = run(capsys, "export", uri, "--to", "trl", "--output", tmp_path / "a")
    assert code == 2 and "TRL has no place for: answers that are not to be learned (1 rows)" in err and not list(tmp_path.iterdir())
    code, out, err = run(capsys, "export", uri, "--to", "trl", "--output", tmp_path / "a", "--leave-out")
    assert code == 0 and json.loads(out[-1])["rows"] == 1 and "left out, since TRL has no place for" in err
    code, _, err = run(capsys, "export", uri, "--to", "tlr", "--output", tmp_path / "b")
    assert code == 2 and "did you mean trl?" in err


def test_a_model_that_is_not_known_is_said(runs, rows, capsys, tmp_path):
    uri = runs.run([rows["messages"]] * 2, learning_rate=1e-3, model={"config": {"model_type": "llama"}, "tokenizer": "some/tokenizer"})
    code, _, err = run(capsys, "export", uri, "--to", "axolotl", "--output", tmp_path / "a")
    assert code == 0 and "PUT-YOUR-MODEL-HERE" in err
    config = yaml.safe_load((tmp_path / "a" / "train.yaml").read_text())
    assert (config["base_model"], config["learning_rate"], config["num_epochs"]) == ("PUT-YOUR-MODEL-HERE", 2e-5, 3), "not those of fresh weights"


# --- the hub -----------------------------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as making a data set and committing files to it asks for."""

    def log_message(self, *_):
        """Say nothing."""

    def do_GET(self):
        self.answer(200, {"id": "me/subset", "private": self.server.private, "sha": "0" * 40, "siblings": []})

    def do_POST(self):
        length, chunked = self.headers.get("Content-Length"), self.headers.get("Transfer-Encoding") == "chunked"
        body = self.chunks() if chunked else self.rfile.read(int(length or 0))
        if self.headers.get("Authorization") != "Bearer hf_right":
            self.answer(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            self.server.made.append(json.loads(body))
            self.answer(200, {"url": f"{self.server.url}/datasets/me/subset"})
        elif "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None} for file in json.loads(body)["files"]]
            self.answer(200, {"files": files})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    self.server.files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
            self.answer(200, {"commitUrl": f"{self.server.url}/datasets/me/subset/commit/1", "commitOid": "1" * 40, "pullRequestUrl": None})
        else:
            self.answer(200, {"warnings": [], "errors": []})

    def chunks(self):
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def hub():
    """A hub on loopback, which keeps what it is sent."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url, server.made, server.files, server.private = f"http://127.0.0.1:{server.server_port}", [], {}, True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def push(hub, *words, token="hf_right"):
    """Run the command in a process of its own: the hub's client reads its address when it is imported."""
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1"}
    program = "from s2l_ray.cli.main import main; main()"
    return subprocess.run([sys.executable, "-c", program, "push", *map(str, words)], env=env, capture_output=True, text=True, check=False)


def test_push_sends_rows_recipe_and_card(runs, rows, hub, tmp_path):
    uri = runs.run([rows["alpaca"]] * 10)
    done = push(hub, uri, "--to", "me/subset", "--arm", "random", "--private", "--output", tmp_path / "sent")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["url"] == f"{hub.url}/datasets/me/subset"
    (made,) = hub.made
    assert (made["name"], made["organization"], made["type"]) == ("subset", "me", "dataset")
    assert made.get("private") is True or made["visibility"] == "private"  # older clients of the hub, and newer ones
    assert hub.files == {path.name: path.read_bytes() for path in (tmp_path / "sent").iterdir()}
    assert set(hub.files) == {"README.md", "recipe.yaml", "subset.parquet"}
    assert pq.read_table(tmp_path / "sent" / "subset.parquet").to_pylist() == [rows["alpaca"]] * 5
    recipe = load_recipe(tmp_path / "sent" / "recipe.yaml")
    assert (recipe.selection.selector, recipe.selection.controls, recipe.data.path) == ("random", [], "mine.jsonl")


def test_the_card_says_how_they_were_chosen_and_nothing_of_this_machine(runs, rows, capsys, tmp_path):
    uri = runs.run([rows["alpaca"]] * 10)
    code, out, err = run(capsys, "push", uri, "--to", "me/subset", "--arm", "random", "--dry-run")
    assert code == 0 and "would send subset.parquet" in err and "nothing was sent to me/subset" in err
    text = "\n".join(out[:-1])
    card = DatasetCard(text)
    assert card.data.pretty_name == "subset" and card.data.license is None and card.data.configs[0]["data_files"][0]["path"] == "subset.parquet"
    for row in ("| selector | random |", "| budget asked for | 0.5 |", "| rows chosen | 5 |", "| seed | 0 |", "| a \\| b | 10 | 5 |",
                f"| pool file mine.jsonl | sha256 {'ab' * 32} |", "5 of 10 rows", "s2l select recipe.yaml", "## Licence"):
        assert row in text
    assert str(runs.folder) not in text


def test_a_wrong_token_a_public_data_set_and_a_wrong_name_are_exit_2(runs, rows, hub, capsys):
    uri = runs.run([rows["alpaca"]] * 2)
    done = push(hub, uri, "--to", "me/subset", token="hf_wrong")
    assert done.returncode == 2 and "log in with `hf auth login`" in done.stderr and "hf_wrong" not in done.stderr
    hub.private = False
    done = push(hub, uri, "--to", "me/subset", "--private")
    assert done.returncode == 2 and "is on the hub and public" in done.stderr and not hub.files
    code, _, err = run(capsys, "push", uri, "--to", "subset")
    assert code == 2 and "must be OWNER/NAME" in err
    hub.shutdown()
    hub.server_close()
    done = push(hub, uri, "--to", "me/subset")
    assert done.returncode == 2 and "cannot be sent to the hub" in done.stderr


def test_a_selection_without_its_run_says_so(runs, rows, capsys, tmp_path):
    step = runs.select(runs.pool([rows["sharegpt"]] * 3, "sharegpt"), "full")
    code, out, _ = run(capsys, "push", f"{runs.storage.uri}/select/{step['fingerprint']}", "--to", "me/subset", "--dry-run", "--output", tmp_path / "a")
    assert code == 0 and "Its run was not given" in "\n".join(out) and not (tmp_path / "a" / "recipe.yaml").exists()

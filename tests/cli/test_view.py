"""The commands that write the page of a transcript: ``transcribe -f html`` and ``view``."""

import gzip
import json
import re
from base64 import b64decode

import pytest

from command_line import GREEDY, assert_refused, run_command
from inputs import DATA
from minwhisper.cli.main import main

CLIP = DATA / "jfk.flac"


def data_of(path):
    page = path.read_text("utf-8")
    return json.loads(gzip.decompress(b64decode(re.search('id="data">([^<]*)', page)[1]))), page


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_en):
    """Transcribe a clip to JSON and to a page."""
    made = tmp_path_factory.mktemp("talk")
    arguments = ["transcribe", str(CLIP), "--model", "tiny.en", "-f", "json,html", "-o", str(made), *GREEDY]
    assert main(arguments) == 0
    return made


def test_transcribe_writes_a_page_with_words_steps_and_audio(folder):
    data, page = data_of(folder / "jfk.html")
    assert data["title"] == "jfk.flac"
    assert data["model"] == "tiny.en"
    assert data["timed"]
    assert len(data["steps"]) == len(data["words"]) == 22
    assert len(re.search('id="audio">([^<]*)', page)[1]) > 10_000


def test_view_makes_the_same_page_of_the_json(folder, tmp_path, capfd):
    target = tmp_path / "again.html"
    result = run_command(capfd, "view", folder / "jfk.json", "--audio", CLIP, "-o", target)
    assert result.status == 0, result.err
    assert result.out.startswith(f"{target}: 0.1 MB")
    again, _ = data_of(target)
    first, _ = data_of(folder / "jfk.html")
    assert {**again, "model": "", "link": ""} == {**first, "model": "", "link": ""}


def test_view_writes_beside_the_transcript_and_without_audio(folder, tmp_path, capfd):
    copy = tmp_path / "talk.json"
    copy.write_bytes((folder / "jfk.json").read_bytes())
    assert run_command(capfd, "view", copy).status == 0
    data, page = data_of(tmp_path / "talk.html")
    assert data["title"] == "talk"
    assert '<script type="text/plain" id="audio"></script>' in page


def test_a_page_that_is_too_large_links_the_recording(folder, tmp_path, capfd):
    target = tmp_path / "small.html"
    options = ("--audio", CLIP, "-o", target, "--max_size", "0.05")
    assert run_command(capfd, "view", folder / "jfk.json", *options).status == 0
    data, page = data_of(target)
    assert '<script type="text/plain" id="audio"></script>' in page
    assert (tmp_path / data["link"]).resolve() == CLIP.resolve()


def test_invalid_files_and_options_are_refused(folder, tmp_path, capfd):
    assert_refused(run_command(capfd, "view", CLIP), "jfk.flac: expected JSON")
    assert_refused(run_command(capfd, "view", folder / "jfk.json", "--max_size", "0"), "max_size: expected megabytes")
    assert_refused(run_command(capfd, "view", folder / "jfk.json", "--audio", folder / "none.mp3"), "none.mp3")
    assert_refused(run_command(capfd, "view", folder / "jfk.json", "-o", tmp_path / "no" / "x.html"), "x.html")
    assert not (tmp_path / "no").exists()

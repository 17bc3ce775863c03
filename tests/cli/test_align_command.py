"""``minwhisper align``: each sentence with its times, doubtful words marked, and files on request."""

import json

import pytest

from command_line import assert_refused, run_command
from inputs import DATA

CLIP = str(DATA / "LJ001-0008.wav")
TEXT = "has never been surpassed."


@pytest.fixture
def command(capfd, tiny_en, tmp_path, monkeypatch):
    """Run the command in an empty folder with a text; return exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(text, *options, audio=CLIP):
        (tmp_path / "talk.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
        return run_command(capfd, "align", audio, "talk.txt", "--model", "tiny.en", *options)

    return run


def test_sentences_are_shown_with_times_and_doubtful_words_marked_and_files_written_on_request(
    command, tmp_path, tiny_en, monkeypatch
):
    text = "Has never been surpassed\nby the Netherlands."
    result = command(f"\ufeff{text}", "-f", "json", "-o", "out")
    first, second = result.out.splitlines()
    assert result.status == 0
    assert first.startswith("[00:0")
    assert first.endswith("]  Has never been surpassed")
    assert second.endswith("]  [? by the Netherlands. ?]")
    assert result.err == "minwhisper: 3 of 7 words are doubtful: they were probably not said\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["LJ001-0008.json"]
    aligned = tiny_en.align(CLIP, text)
    assert json.loads((tmp_path / "out" / "LJ001-0008.json").read_text()) == aligned
    monkeypatch.setattr(type(tiny_en), "align", lambda *_, **__: aligned)
    assert command(text).out == result.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "talk.txt"]


@pytest.mark.parametrize(
    ("text", "options", "part"),
    [
        ("", (), "talk.txt: text: expected the text that was said"),
        (b"\xff\xfeh", (), "talk.txt: expected text in UTF-8, but byte 0 is not"),
        (TEXT, ("--language", "germam"), "did you mean 'german'?"),
        (TEXT, ("--language", "german"), "English only"),
        (TEXT, ("--batch_size", "0"), "batch_size: expected a whole number"),
        (TEXT, ("-o", "talk.txt"), "output_dir"),
    ],
)
def test_invalid_input_gives_one_line(command, text, options, part):
    assert_refused(command(text, *options), part)


def test_a_missing_file_gives_one_line(command, capfd, tmp_path):
    assert_refused(command(TEXT, audio="missing.mp3"), "missing.mp3")
    assert_refused(run_command(capfd, "align", CLIP, "missing.txt", "--model", "tiny.en"), "missing.txt")

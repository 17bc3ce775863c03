"""The texts of files: each format gives the same words, and other content gives an error that says what to do."""

import pytest

from minwhisper.errors import TextError
from minwhisper.scoring import normalize_basic
from minwhisper.scoring.texts import Text, pair_files, read_text
from minwhisper.writers.files import write_transcript

TEXTS = ["It is 5 < 6 & fine.", "42", "Ça va? --> No."]
TRANSCRIPT = {
    "text": " ".join(TEXTS),
    "segments": [{"start": 2.0 * n, "end": 2.0 * n + 1, "text": f" {text}"} for n, text in enumerate(TEXTS)],
    "language": "fr",
}


def write(path, content: str | bytes):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("format", ["txt", "vtt", "tsv", "json", "jsonl"])
def test_our_own_files_give_their_words_back(format, tmp_path):
    (path,) = write_transcript(TRANSCRIPT, tmp_path, "talk", format)
    found = read_text(path)
    assert normalize_basic(found.text).split() == normalize_basic(TRANSCRIPT["text"]).split()
    assert found.language == ("fr" if format.startswith("json") else None)


def test_subtitles_lose_numbers_times_notes_and_tags_and_other_texts_nothing(tmp_path):
    srt = "\ufeff1\n00:00:01,000 --> 00:00:02,000\n<i>Hello</i>\nyou\n\n2\n00:00:03,000 --> 00:00:04,000\n1999\n"
    assert read_text(write(tmp_path / "a.srt", srt.replace("\n", "\r\n"))).text.split() == ["Hello", "you", "1999"]
    vtt = "WEBVTT\n\nNOTE not spoken\n\nSTYLE\n::cue {}\n\nintro\n00:01.000 --> 00:02.000 align:left\n<v Ann>AT&amp;T\n"
    assert read_text(write(tmp_path / "a.vtt", vtt)).text.split() == ["AT&T"]
    assert read_text(write(tmp_path / "b.vtt", "WEBVTT\n")).text == ""
    assert read_text(write(tmp_path / "b.srt", "")).text == ""
    assert read_text(write(tmp_path / "a.lab", "one\rtwo")) == Text("one\ntwo")  # any other suffix means plain text
    assert read_text(write(tmp_path / "a.json", '{"text": "a", "language": ["en"]}')) == Text("a", None)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.txt", b"RIFF\xff\xfe", "is not text .byte 4 is not UTF-8.; transcribe an audio file first"),
        ("a.txt", b"a\0b", "is not text .it contains NUL characters."),
        ("a.txt", b"a" * 10_000_001, "expected at most 10,000,000 bytes of text, the file has more; is it audio"),
        ("a.json", b"{", 'is not JSON; expected a transcript in JSON, {"text": "…", …}'),
        ("a.json", b"[" * 100_000, "is not JSON; "),
        ("a.json", b'{"text": 1}', 'has no text; expected a transcript in JSON, {"text": "…", …}'),
        ("a.tsv", b"one two\n", "expected a table with the columns start, end and text, separated by tabs"),
        ("a.tsv", b"start\tend\ttext\n1\t2\n", "expected a table with the columns start, end and text"),
        ("a.srt", b"one two\n", "expected subtitles with times such as 00:00:01,000 --> 00:00:02,500, found none"),
    ],
)
def test_content_that_does_not_match_the_format_is_an_error(name, content, problem, tmp_path):
    with pytest.raises(TextError, match=f"{name}: {problem}"):
        read_text(write(tmp_path / name, content))


def test_files_of_folders_are_paired_by_name(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (
        *(one / name for name in ("b.txt", "a.b.txt", "c.txt", ".b.txt", "sub.txt/x")),
        *(other / name for name in ("a.b.srt", "b.json", "b.txt", "d.tsv", "c.wav", ".b.txt")),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    pairs, unpaired = pair_files(one, other)
    assert [*pairs.items()] == [
        ("a.b", (one / "a.b.txt", other / "a.b.srt")),
        ("b", (one / "b.txt", other / "b.json")),
    ]
    assert unpaired == [one / "c.txt", other / "d.tsv"]
    assert pair_files(one / "c.txt", other / "d.tsv") == ({"d": (one / "c.txt", other / "d.tsv")}, [])  # of any names


def test_files_and_folders_that_give_no_pair_are_an_error(tmp_path):
    file, empty = write(tmp_path / "a.txt", "a"), tmp_path / "empty"
    empty.mkdir()
    for pair, problem in (
        ((tmp_path / "none.txt", file), "none.txt: there is no such file or folder; check the path"),
        ((tmp_path, file), "is a folder and .*a.txt is a file: expected two files, or two folders"),
        ((tmp_path, empty), "no two files have the same name; expected pairs such as talk.txt in both"),
    ):
        with pytest.raises(TextError, match=problem):
            pair_files(*pair)

"""Writers: each format, properties of all subtitles, atomic files, and parity with openai-whisper."""

import csv
import errno
import io
import itertools
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_transcripts import segment, spoken, transcript, word
from minwhisper.errors import OptionError
from minwhisper.transcription.segments import Transcript
from minwhisper.writers.files import check_file_names, check_writable, write_transcript
from minwhisper.writers.render import FORMATS, render
from minwhisper.writers.subtitles import SubtitleOptions, TimedText, format_timestamp, subtitles

FOX = spoken(word(" The", 0.5, 0.7), word(" quick", 0.7, 1.0), word(" brown", 1.2, 1.5), word(" fox", 1.5, 2.0))
JUMPS = spoken(word(" jumps", 2.5, 3.0), word(" over.", 3.0, 3.5))
LATER = spoken(word(" Later,", 6.5, 7.0), word(" more.", 7.0, 7.5))  # 3.5 s after the start of the previous word
TALK = transcript(FOX, JUMPS, LATER)
PLAIN = transcript(segment(" Good mörning.", 0.0, 1.25), segment(" Bye.", 3661.5, 3662.0))
NOTHING = transcript()


def shown(talk: Transcript, **options) -> list[str]:
    return [subtitle.text for subtitle in subtitles(talk, SubtitleOptions(**options))]


# ------------------------------------------------------------------------------------------ timestamps


def test_timestamps_are_rounded_and_show_hours_if_needed():
    for seconds, short, long in (
        (-0.0, "00:00.000", "00:00:00.000"),
        (0.0006, "00:00.001", "00:00:00.001"),
        (59.9994, "00:59.999", "00:00:59.999"),
        (3599.9996, "01:00:00.000", "01:00:00.000"),
        (4_444_444.125, "1234:34:04.125", "1234:34:04.125"),
    ):
        assert format_timestamp(seconds) == short
        assert format_timestamp(seconds, always_include_hours=True) == long
        assert format_timestamp(seconds, True, ",") == long.replace(".", ",")


@pytest.mark.parametrize("seconds", [-0.001, float("nan"), float("inf")])
def test_an_impossible_time_is_refused(seconds):
    with pytest.raises(OptionError, match=r"expected seconds, 0 or more, got (-|nan|inf)"):
        format_timestamp(seconds)
    for format in ("vtt", "srt", "tsv"):
        for times in ((seconds, 1.0), (1.0, seconds)):
            with pytest.raises(OptionError, match="a time in the transcript"):
                render(transcript(segment("a", *times)), format)


# ------------------------------------------------------------------------------------------ formats


@pytest.mark.parametrize(
    ("format", "expected", "empty"),
    [
        ("txt", "Good mörning.\nBye.\n", ""),
        (
            "vtt",
            "WEBVTT\n\n00:00.000 --> 00:01.250\nGood mörning.\n\n01:01:01.500 --> 01:01:02.000\nBye.\n\n",
            "WEBVTT\n\n",
        ),
        ("srt", "1\n00:00:00,000 --> 00:00:01,250\nGood mörning.\n\n2\n01:01:01,500 --> 01:01:02,000\nBye.\n\n", ""),
        ("tsv", "start\tend\ttext\n0\t1250\tGood mörning.\n3661500\t3662000\tBye.\n", "start\tend\ttext\n"),
    ],
)
def test_each_format_of_a_transcript_and_of_an_empty_one(format, expected, empty):
    assert render(PLAIN, format) == expected
    for options in (SubtitleOptions(), SubtitleOptions(10, 2, True, 3)):
        assert render(NOTHING, format, options) == empty


def test_json_lines_are_the_rows_of_a_table():
    talk = {**TALK, "windows": [], "language_probs": {"en": 1.0}}  # keys of a record, which belong to no segment
    lines = render(talk, "jsonl", name="a/talk").splitlines()
    rows = [{"file": "a/talk", "language": "en", **part} for part in TALK["segments"]]
    assert list(map(json.loads, lines)) == rows
    assert [*json.loads(lines[0])][:5] == ["file", "language", "id", "seek", "start"]  # columns in this order
    assert render(transcript(segment("1\u2028\n2\x85", 0, 1)), "jsonl").splitlines()[1:] == []
    assert render(NOTHING, "jsonl") == ""
    with pytest.raises(OptionError, match="expected finite numbers"):
        render(transcript(segment("a", 0, float("nan"))), "jsonl")


def test_a_recording_of_a_subfolder_has_its_name_in_the_files(tmp_path):
    write_transcript(TALK, tmp_path, "talk", "jsonl,ctm,txt", recording="a/talk")
    assert (tmp_path / "talk.jsonl").read_text().startswith('{"file": "a/talk", "language": "en", ')
    assert (tmp_path / "talk.ctm").read_text().startswith("a/talk 1 0.500 ")


def test_json_is_the_transcript_in_ascii():
    text = render(TALK, "json")
    assert json.loads(text) == TALK
    assert render(PLAIN, "json").startswith(r'{"text": " Good m\u00f6rning. Bye.", "segments": [{"id": 0, "seek": 0,')


LINE_BREAKS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("line_break", LINE_BREAKS, ids=ascii)
def test_a_line_break_in_a_text_does_not_break_the_file(line_break):
    text = f"{line_break}a{line_break}{line_break}b{line_break}"
    for talk in (
        transcript(segment(text, 0.0, 1.0), segment("c", 1.0, 2.0)),
        transcript(spoken(word(text, 0.0, 1.0)), spoken(word("c", 1.0, 2.0))),
    ):
        assert render(talk, "txt") == "a  b\nc\n"
        assert render(talk, "tsv") == "start\tend\ttext\n0\t1000\ta  b\n1000\t2000\tc\n"
        assert render(talk, "vtt") == "WEBVTT\n\n00:00.000 --> 00:01.000\na  b\n\n00:01.000 --> 00:02.000\nc\n\n"
        assert render(talk, "srt").splitlines()[2:5] == ["a  b", "", "2"]
    assert shown(transcript(spoken(word("a", 0, 1), word(f"{line_break}b", 1, 2), word("c", 2, 3)))) == ["a bc"]


def test_a_tab_in_a_text_does_not_break_the_table():
    talk = transcript(segment("\ta\tb\t", 0.0, 1.0))
    rows = list(csv.reader(io.StringIO(render(talk, "tsv")), delimiter="\t"))
    assert rows == [["start", "end", "text"], ["0", "1000", "a b"]]


# ------------------------------------------------------------------------------------------ subtitles


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["The quick brown fox", "jumps over.", "Later, more."]),
        ({"max_line_width": 8}, ["The\nquick\nbrown\nfox", "jumps\nover.", "Later,\nmore."]),
        ({"max_line_count": 1}, ["The quick brown fox", "jumps over.", "Later, more."]),
        ({"max_words_per_line": 3, "max_line_width": 9}, ["The quick\nbrown", "fox", "jumps\nover.", "Later,\nmore."]),
        # With both options, lines run across segments up to a long pause, and the number of words is ignored.
        ({"max_line_width": 9, "max_line_count": 3}, ["The quick\nbrown fox\njumps", "over.", "Later,\nmore."]),
        (
            {"max_line_width": 100, "max_line_count": 1, "max_words_per_line": 1},
            ["The quick brown fox jumps over.", "Later, more."],
        ),
    ],
)
def test_words_are_grouped_into_subtitles(options, expected):
    assert shown(TALK, **options) == expected


def test_a_pause_is_long_above_three_seconds_from_start_to_start():
    for gap, expected in ((3.0, ["a b"]), (3.001, ["a", "b"])):
        talk = transcript(spoken(word(" a", 0, 2.9)), spoken(word(" b", gap, gap + 1)))
        assert shown(talk, max_line_width=9, max_line_count=2) == expected
    silent_start = transcript(spoken(word(" a", 100, 101), word(" b", 101, 102)))
    assert shown(silent_start, max_line_width=9, max_line_count=2) == ["a b"]


def test_without_options_the_limits_are_those_of_openai_whisper():
    # openai-whisper breaks a line of more than 1,000 characters, and a subtitle of more than 1,000 words.
    long = transcript(spoken(*(word(" abc", i / 100, i / 100) for i in range(300))))
    assert [list(map(len, text.split("\n"))) for text in shown(long)] == [[999, 199]]
    many = transcript(spoken(*(word("a", i / 100, i / 100) for i in range(1001))))
    assert list(map(len, shown(many))) == [1000, 1]


def test_segments_without_words_among_others_are_kept_whole():
    silent = segment("", 2.0, 2.0, [])
    for bare in (segment(" no words", 2.0, 3.0), segment(" no words", 2.0, 3.0, [])):
        for talk in (transcript(FOX, silent, bare), transcript(FOX, bare, silent)):
            assert shown(talk) == ["The quick brown fox", "no words"]
            assert shown(talk, max_line_width=28, max_line_count=1) == ["The quick brown fox no words"]
            assert shown(talk, max_line_width=27, max_line_count=1) == ["The quick brown fox", "no words"]
        assert shown(transcript(bare, FOX)) == ["no words", "The quick brown fox"]


def test_blank_words_are_left_out():
    blank = (word("", 0, 0), word(" ", 0, 0), word("\n", 0, 0))
    talk = transcript(spoken(*blank, word(" a", 1, 2), *blank, word(" b", 2, 3), *blank))
    assert list(subtitles(talk, SubtitleOptions())) == [TimedText(1, 3, "a b")]
    assert shown(talk, max_words_per_line=1) == ["a", "b"]
    assert shown(talk, max_line_width=1, max_line_count=2) == ["a\nb"]
    assert shown(talk, highlight_words=True) == ["<u>a</u> b", "a <u>b</u>"]


def test_each_word_is_highlighted_while_it_is_spoken():
    assert list(subtitles(transcript(FOX), SubtitleOptions(highlight_words=True, max_line_width=9)))[:4] == [
        TimedText(0.5, 0.7, "<u>The</u> quick\nbrown fox"),
        TimedText(0.7, 1.0, "The <u>quick</u>\nbrown fox"),
        TimedText(1.0, 1.2, "The quick\nbrown fox"),
        TimedText(1.2, 1.5, "The quick\n<u>brown</u> fox"),
    ]
    for start in (0.9, 1.0, 1.0004):  # no subtitle between words that touch or overlap
        talk = transcript(spoken(word(" no", 0.0, 1.0), word(" no", start, 2.0)))
        found = [TimedText(0.0, 1.0, "<u>no</u> no"), TimedText(start, 2.0, "no <u>no</u>")]
        assert list(subtitles(talk, SubtitleOptions(highlight_words=True))) == found


@pytest.mark.parametrize("name", ["max_line_width", "max_line_count", "max_words_per_line"])
def test_a_limit_is_a_whole_number_and_highlighting_is_on_or_off(name):
    for value in (0, -1, 2.0, True, "3"):
        shown = re.escape(repr(value))
        with pytest.raises(OptionError, match=rf"^{name}: expected a whole number, at least 1.* got {shown}"):
            SubtitleOptions(**{name: value})
    for value in (None, 0, "True"):
        with pytest.raises(OptionError, match=r"^highlight_words: expected True or False, got"):
            SubtitleOptions(highlight_words=value)


# ------------------------------------------------------------------------------------------ files


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of every file in a folder, without using functions that some tests replace."""
    found = {}
    for name in os.listdir(folder):
        with open(folder / name, "rb") as file:
            found[name] = file.read()
    return found


def test_every_format_is_written(tmp_path):
    options, folder = SubtitleOptions(max_line_width=9, highlight_words=True), tmp_path / "new" / "folder"
    paths = write_transcript(TALK, folder, "a.b c", options=options)
    assert paths == [folder / f"a.b c.{format}" for format in FORMATS]
    assert contents(folder) == {f"a.b c.{format}": render(TALK, format, options).encode() for format in FORMATS}
    assert write_transcript(PLAIN, str(tmp_path), "talk", "srt") == [tmp_path / "talk.srt"]


def test_lines_end_in_a_line_feed_on_every_platform_and_half_a_surrogate_pair_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "linesep", "\r\n")
    write_transcript(transcript(segment("a \ud83d b", 0, 1)), tmp_path, "talk")
    assert contents(tmp_path)["talk.txt"] == b"a ? b\n"
    assert all(b"\r" not in data for data in contents(tmp_path).values())


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_files_have_the_usual_permissions(tmp_path):
    old = os.umask(0o027)
    try:
        new, private = (write_transcript(PLAIN, tmp_path, name, "txt")[0] for name in ("new", "private"))
        private.chmod(0o600)
        write_transcript(PLAIN, tmp_path, "private", "txt")
    finally:
        os.umask(old)
    assert new.stat().st_mode & 0o777 == 0o640
    assert private.stat().st_mode & 0o777 == 0o600  # its permissions are kept


class FullDisk(io.FileIO):
    """A file that writes half of its input, and then raises an error."""

    def write(self, data):
        super().write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse(error):
    def refusal(*args, **kwargs):
        raise error

    return refusal


class Mistake(Exception):
    """An unexpected error."""


INTERRUPTIONS = {
    "disk full": (Path, "open", lambda path, mode: FullDisk(path, mode.replace("b", ""))),
    "disk full at last": (os, "fsync", refuse(OSError(errno.ENOSPC, "No space left on device"))),
    "no permission": (os, "replace", refuse(PermissionError(errno.EACCES, "Permission denied"))),
    "control-C while writing": (os, "fsync", refuse(KeyboardInterrupt())),
    "control-C before the end": (os, "replace", refuse(KeyboardInterrupt())),
    "a mistake": (os, "replace", refuse(Mistake())),
}


@pytest.mark.parametrize("old", [{}, {"talk.srt": b"old"}], ids=["new", "old"])
@pytest.mark.parametrize("how", INTERRUPTIONS)
def test_an_interruption_leaves_only_the_old_file(how, old, tmp_path, monkeypatch):
    for name, data in old.items():
        (tmp_path / name).write_bytes(data)
    owner, name, instead = INTERRUPTIONS[how]
    during = []

    def watched(*args, **kwargs):
        during.append(contents(tmp_path))
        return instead(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, watched)
        with pytest.raises((OptionError, KeyboardInterrupt, Mistake)) as raised:
            write_transcript(PLAIN, tmp_path, "talk", "srt")
    assert during
    assert all(old.items() <= there.items() for there in during)  # the old file was there all the time
    if how != "disk full":
        assert len(during[0]) == len(old) + 1  # and there was a temporary file to remove
    assert contents(tmp_path) == old
    if raised.type is OptionError:
        assert re.match(
            r"output_dir '.*': cannot write 'talk\.srt': (No space|Permission denied).*; free some space there, ",
            str(raised.value),
        )
    write_transcript(PLAIN, tmp_path, "talk", "srt")  # a second attempt succeeds
    assert contents(tmp_path) == {"talk.srt": render(PLAIN, "srt").encode()}


def test_names_that_cannot_be_written_are_found_in_advance(tmp_path):
    (tmp_path / "talk.srt").mkdir()
    for name, format in (("talk", "txt"), ("n" * 250, "json"), ("n" * 251, "txt")):  # names of up to 255 bytes
        check_file_names(tmp_path, name, format)
        assert write_transcript(PLAIN, tmp_path, name, format) == [tmp_path / f"{name}.{format}"]
        check_file_names(tmp_path, name, format)  # this file can be replaced
    for name, message in (
        ("talk", r"'talk\.srt': there is a folder of this name; free some space"),
        ("n" * 251, r"'n+\.json': File name too long"),
        ("a\0b", ".* null"),
    ):
        with pytest.raises(OptionError, match=f"cannot write {message}"):
            check_file_names(tmp_path, name, "all")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no users")
def test_another_users_file_in_a_shared_folder_is_found_in_advance(tmp_path, monkeypatch):
    (tmp_path / "talk.txt").write_text("theirs")
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 12345)
    check_file_names(tmp_path, "talk", "txt")  # check_writable checks the folder's permissions
    tmp_path.chmod(0o1777)  # like /tmp
    with pytest.raises(OptionError, match=r"cannot write 'talk\.txt': the file belongs to another user; "):
        check_file_names(tmp_path, "talk", "txt")
    check_file_names(tmp_path, "walk", "txt")


WRITE = [check_writable, lambda folder: write_transcript(PLAIN, folder, "talk")]


@pytest.mark.parametrize("use", WRITE)
def test_a_file_in_the_way_is_named_and_kept(use, tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(OptionError, match=rf"^output_dir '{re.escape(str(folder))}': .* choose another folder$"):
            use(folder)
    assert contents(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize("method", ["mkdir", "open"])
@pytest.mark.parametrize("use", WRITE)
def test_a_read_only_place_is_refused(use, method, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:  # tests may run as root, who can write everywhere
        patch.setattr(Path, method, refuse(OSError(errno.EROFS, "Read-only file system")))
        with pytest.raises(OptionError, match=r"^output_dir .*Read-only file system"):
            use(tmp_path)
    assert contents(tmp_path) == {}


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    for _ in range(2):
        check_writable(tmp_path / "new" / "folder")
        assert contents(tmp_path / "new" / "folder") == {}


def test_a_full_disk_is_found_in_advance(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode, *args: FullDisk(path, mode.replace("b", "")))
        with pytest.raises(OptionError, match="No space left"):
            check_writable(tmp_path)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("name", ["", ".", "a/b", "/a", "../a", "a/"])
def test_a_name_with_a_folder_is_refused(name, tmp_path):
    with pytest.raises(OptionError, match=rf"^name: .* got {re.escape(repr(name))}"):
        write_transcript(PLAIN, tmp_path / "folder", name)
    assert contents(tmp_path) == {}


def test_what_cannot_be_rendered_creates_no_file_or_folder(tmp_path):
    for talk, format, message in (
        (PLAIN, "doc", r"output_format: expected one of txt, vtt, .*, ctm, html, all, got 'doc'"),
        (transcript(segment("a", -1.0, 1.0)), "all", "a time in the transcript"),
    ):
        with pytest.raises(OptionError, match=message):
            write_transcript(talk, tmp_path / "folder", "talk", format)
    assert contents(tmp_path) == {}


# ------------------------------------------------------------------------------------------ parity


all_options = st.builds(
    SubtitleOptions,
    max_line_width=st.none() | st.integers(1, 20),
    max_line_count=st.none() | st.integers(1, 4),
    highlight_words=st.booleans(),
    max_words_per_line=st.none() | st.integers(1, 4),
)
pieces = st.sampled_from(
    [" a", " Hello,", " it's", "今", " «Ну»", " two words", " tail ", "\tx", " -", ">", " <u>", "é"]
)


@st.composite
def talks(draw) -> Transcript:
    """Draw up to four segments of up to six words each, without overlaps."""
    now = draw(st.sampled_from([0.0, 0.0, 3590.0, 360_000.0]))
    segments = []
    for _ in range(draw(st.integers(0, 4))):
        words = []
        for _ in range(draw(st.integers(0, 6))):
            start = now + draw(st.sampled_from([0.0, 0.0, 0.0003, 0.02, 1.0, 3.5]))
            now = start + draw(st.sampled_from([0.0, 0.02, 0.36, 2.9, 4.0]))
            words.append(word(draw(pieces), start, now))
        segments.append(spoken(*words) if words else segment("", now, now, []))
    return transcript(*segments)


@pytest.fixture(scope="module")
def theirs():
    """Return openai-whisper's writers as a function with the arguments of ``render``.

    Placeholders make them write WebVTT as if they escaped ``&`` and ``<``.
    """
    utils = pytest.importorskip("whisper.utils")

    def rendered(talk: Transcript, format: str, options: SubtitleOptions) -> str:
        if format == "vtt":
            talk = json.loads(json.dumps(talk, ensure_ascii=False).translate({ord("&"): "\ue000", ord("<"): "\ue001"}))
        file = io.StringIO()
        utils.get_writer(format, "").write_result(talk, file=file, options=vars(options))
        return file.getvalue().replace("\ue000", "&amp;").replace("\ue001", "&lt;")

    return rendered


texts = st.lists(st.sampled_from([" a", "-->", "\t", " ", '"', "é", "今", "&", "😀"]), max_size=6).map("".join)
parts = st.builds(segment, texts, st.floats(0, 1e6), st.floats(0, 1e6))
without_words = st.lists(parts, max_size=4).map(lambda segments: transcript(*segments))


@pytest.mark.parity
def test_files_of_any_transcript_are_those_of_openai_whisper(theirs):
    seen = set()

    @settings(deadline=None, max_examples=500, derandomize=True)
    @given(talks() | without_words, all_options)
    def check(talk, options):
        for format in FORMATS:
            ours = render(talk, format, options)
            assert ours == theirs(talk, format, options)
            if format == "srt":
                seen.update(["hours"] if "100:00:0" in ours else [])
                seen.update(["lines"] if re.search(r"\n.+-->.+\n.+\n.+\n", ours) else [])
                combination = tuple(value not in (None, False) for value in vars(options).values())
                seen.update([combination] if ours.count("-->") > 2 else [])
        seen.update(each for each in ("-->", "\t") if each in talk["text"].strip())

    check()
    assert seen == {"hours", "lines", "-->", "\t", *itertools.product((False, True), repeat=4)}


BROKEN = {
    "an arrow of two words": (transcript(spoken(word(" ---", 0, 1), word(">", 1, 2))), {}, "vtt", "\n->\n"),
    "a longer arrow": (transcript(segment("--->", 0, 1)), {}, "srt", "\n->\n"),
    "a tag": (transcript(segment("<b> & <c>", 0, 1)), {}, "vtt", "\n&lt;b> &amp; &lt;c>\n"),
    "a tag in a highlighted word": (
        transcript(spoken(word(" a<b", 0, 1), word(" R&D", 1, 2))),
        {"highlight_words": True, "max_line_width": 7, "max_line_count": 1},
        "vtt",
        "\n<u>a&lt;b</u> R&amp;D\n",
    ),
    "a NUL in WebVTT": (transcript(segment("a\0b", 0, 1)), {}, "vtt", "\na\N{REPLACEMENT CHARACTER}b\n"),
    "a NUL in SubRip": (transcript(segment("a\0b", 0, 1)), {}, "srt", "\na\N{REPLACEMENT CHARACTER}b\n"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_files_are_valid_for_text_that_breaks_those_of_openai_whisper(what):
    talk, chosen, format, expected = BROKEN[what]
    assert expected in render(talk, format, SubtitleOptions(**chosen))

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

from minwhisper.errors import OptionError
from minwhisper.transcription.segments import Segment, Transcript, Word
from minwhisper.writers.files import check_file_names, check_writable, write_transcript
from minwhisper.writers.render import FORMATS, render
from minwhisper.writers.subtitles import LONG_PAUSE, SubtitleOptions, TimedText, format_timestamp, subtitles


def word(text: str, start: float, end: float) -> Word:
    return {"word": text, "start": start, "end": end, "probability": 0.5}


def segment(text: str, start: float, end: float, words: list[Word] | None = None) -> Segment:
    made: Segment = {
        "id": 0,
        "seek": 0,
        "start": start,
        "end": end,
        "text": text,
        "tokens": [50364, 440, 50414],
        "temperature": 0.0,
        "avg_logprob": -0.25,
        "compression_ratio": 1.5,
        "no_speech_prob": 0.01,
    }
    if words is not None:
        made["words"] = words
    return made


def spoken(*words: Word) -> Segment:
    """Return a segment of these words."""
    return segment("".join(each["word"] for each in words), words[0]["start"], words[-1]["end"], list(words))


def transcript(*segments: Segment) -> Transcript:
    return {"text": "".join(each["text"] for each in segments), "segments": list(segments), "language": "en"}


FOX = spoken(word(" The", 0.5, 0.7), word(" quick", 0.7, 1.0), word(" brown", 1.2, 1.5), word(" fox", 1.5, 2.0))
JUMPS = spoken(word(" jumps", 2.5, 3.0), word(" over.", 3.0, 3.5))
LATER = spoken(word(" Later,", 6.5, 7.0), word(" more.", 7.0, 7.5))  # 3.5 s after the start of the previous word
TALK = transcript(FOX, JUMPS, LATER)
PLAIN = transcript(segment(" Good mörning.", 0.0, 1.25), segment(" Bye.", 3661.5, 3662.0))
NOTHING = transcript()


def shown(talk: Transcript, **options) -> list[str]:
    return [subtitle.text for subtitle in subtitles(talk, SubtitleOptions(**options))]


# ------------------------------------------------------------------------------------------ timestamps


@pytest.mark.parametrize(
    ("seconds", "short", "long"),
    [
        (0, "00:00.000", "00:00:00.000"),
        (-0.0, "00:00.000", "00:00:00.000"),
        (0.0004, "00:00.000", "00:00:00.000"),
        (0.0006, "00:00.001", "00:00:00.001"),
        (1.005, "00:01.005", "00:00:01.005"),
        (59.9994, "00:59.999", "00:00:59.999"),
        (59.9996, "01:00.000", "00:01:00.000"),
        (3599.999, "59:59.999", "00:59:59.999"),
        (3599.9996, "01:00:00.000", "01:00:00.000"),
        (3661.5, "01:01:01.500", "01:01:01.500"),
        (360_000, "100:00:00.000", "100:00:00.000"),
        (4_444_444.125, "1234:34:04.125", "1234:34:04.125"),
    ],
)
def test_timestamps(seconds, short, long):
    assert format_timestamp(seconds) == short
    assert format_timestamp(seconds, always_include_hours=True) == long
    assert format_timestamp(seconds, True, ",") == long.replace(".", ",")


@pytest.mark.parametrize("seconds", [-0.001, -5, float("nan"), float("inf"), -float("inf")])
def test_an_invalid_time_is_refused(seconds):
    with pytest.raises(OptionError, match=r"expected seconds, 0 or more, got (-|nan|inf)"):
        format_timestamp(seconds)


@pytest.mark.parametrize("format", ["vtt", "srt", "tsv"])
@pytest.mark.parametrize(("start", "end"), [(-1.0, 1.0), (1.0, -1.0), (0.0, float("nan"))])
def test_a_transcript_with_impossible_times_is_refused(format, start, end):
    with pytest.raises(OptionError, match="a time in the transcript"):
        render(transcript(segment("a", start, end)), format)


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
def test_each_format_of_a_transcript_and_of_none(format, expected, empty):
    assert render(PLAIN, format) == expected
    for options in (SubtitleOptions(), SubtitleOptions(10, 2, True, 3)):
        assert render(NOTHING, format, options) == empty


def test_json_lines_are_the_rows_of_a_table():
    talk = {**TALK, "windows": [], "language_probs": {"en": 1.0}}  # of a record; they belong to no segment
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


def test_subtitles_consist_of_words_if_there_are_any():
    assert render(TALK, "vtt", SubtitleOptions(max_words_per_line=3)).startswith(
        "WEBVTT\n\n00:00.500 --> 00:01.500\nThe quick brown\n\n00:01.500 --> 00:02.000\nfox\n\n"
    )


@pytest.mark.parametrize("format", ["", "all", "SRT", ".txt", None])
def test_an_unknown_format_is_refused(format):
    with pytest.raises(OptionError, match=r"output_format: expected one of txt, vtt, srt, .*, ctm, html, got"):
        render(PLAIN, format)


LINE_BREAKS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("line_break", LINE_BREAKS, ids=ascii)
def test_a_line_break_in_a_text_does_not_break_the_file(line_break):
    assert len(f"a{line_break}b".splitlines()) == 2  # all that Python splits at
    text = f"{line_break}a{line_break}{line_break}b{line_break}"
    for talk in (
        transcript(segment(text, 0.0, 1.0), segment("c", 1.0, 2.0)),
        transcript(spoken(word(text, 0.0, 1.0)), spoken(word("c", 1.0, 2.0))),
    ):
        assert render(talk, "txt") == "a  b\nc\n"
        assert render(talk, "tsv") == "start\tend\ttext\n0\t1000\ta  b\n1000\t2000\tc\n"
        assert render(talk, "vtt") == "WEBVTT\n\n00:00.000 --> 00:01.000\na  b\n\n00:01.000 --> 00:02.000\nc\n\n"
        assert render(talk, "srt").splitlines()[2:5] == ["a  b", "", "2"]


def test_a_line_break_between_words_is_a_space():
    assert shown(transcript(spoken(word("a", 0, 1), word("\nb\n", 1, 2), word("c", 2, 3)))) == ["a b c"]


def test_a_tab_in_a_text_does_not_break_the_table():
    talk = transcript(segment("\ta\tb\t", 0.0, 1.0))
    rows = list(csv.reader(io.StringIO(render(talk, "tsv")), delimiter="\t"))
    assert rows == [["start", "end", "text"], ["0", "1000", "a b"]]


# ------------------------------------------------------------------------------------------ subtitles


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["The quick brown fox", "jumps over.", "Later, more."]),
        ({"max_line_width": 9}, ["The quick\nbrown fox", "jumps\nover.", "Later,\nmore."]),
        ({"max_line_width": 8}, ["The\nquick\nbrown\nfox", "jumps\nover.", "Later,\nmore."]),
        ({"max_line_width": 1}, ["The\nquick\nbrown\nfox", "jumps\nover.", "Later,\nmore."]),
        ({"max_line_count": 1}, ["The quick brown fox", "jumps over.", "Later, more."]),
        ({"max_words_per_line": 3}, ["The quick brown", "fox", "jumps over.", "Later, more."]),
        ({"max_words_per_line": 4}, ["The quick brown fox", "jumps over.", "Later, more."]),
        ({"max_words_per_line": 3, "max_line_width": 9}, ["The quick\nbrown", "fox", "jumps\nover.", "Later,\nmore."]),
        # Both options: across segments, up to a long pause.
        ({"max_line_width": 100, "max_line_count": 9}, ["The quick brown fox jumps over.", "Later, more."]),
        ({"max_line_width": 9, "max_line_count": 1}, ["The quick", "brown fox", "jumps", "over.", "Later,", "more."]),
        ({"max_line_width": 9, "max_line_count": 2}, ["The quick\nbrown fox", "jumps\nover.", "Later,\nmore."]),
        ({"max_line_width": 9, "max_line_count": 3}, ["The quick\nbrown fox\njumps", "over.", "Later,\nmore."]),
        ({"max_line_width": 15, "max_line_count": 1}, ["The quick brown", "fox jumps over.", "Later, more."]),
        (
            {"max_line_width": 100, "max_line_count": 1, "max_words_per_line": 1},
            ["The quick brown fox jumps over.", "Later, more."],
        ),
    ],
)
def test_words_are_grouped_into_subtitles(options, expected):
    assert shown(TALK, **options) == expected


def test_a_subtitle_has_the_times_of_its_first_and_last_word():
    options = SubtitleOptions(max_words_per_line=3)
    assert [subtitle[:2] for subtitle in subtitles(TALK, options)] == [(0.5, 1.5), (1.5, 2.0), (2.5, 3.5), (6.5, 7.5)]


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


def test_words_without_spaces_between_them():
    talk = transcript(spoken(*(word(text, i, i + 1) for i, text in enumerate("今天天气很好。"))))
    assert shown(talk, max_line_width=3) == ["今天天\n气很好\n。"]
    assert shown(talk, highlight_words=True)[1] == "今<u>天</u>天气很好。"


@pytest.mark.parametrize(
    "options", [{}, {"max_line_width": 3, "max_line_count": 1}, {"highlight_words": True}, {"max_words_per_line": 1}]
)
def test_without_words_each_segment_is_a_subtitle(options):
    assert shown(PLAIN, **options) == ["Good mörning.", "Bye."]


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
    assert shown(talk) == ["a b"]
    assert shown(talk, max_words_per_line=1) == ["a", "b"]
    assert shown(talk, max_line_width=1, max_line_count=2) == ["a\nb"]
    assert shown(talk, highlight_words=True) == ["<u>a</u> b", "a <u>b</u>"]


def test_each_word_is_highlighted_while_it_is_spoken():
    talk = transcript(FOX)
    assert list(subtitles(talk, SubtitleOptions(highlight_words=True, max_line_width=9))) == [
        TimedText(0.5, 0.7, "<u>The</u> quick\nbrown fox"),
        TimedText(0.7, 1.0, "The <u>quick</u>\nbrown fox"),
        TimedText(1.0, 1.2, "The quick\nbrown fox"),
        TimedText(1.2, 1.5, "The quick\n<u>brown</u> fox"),
        TimedText(1.5, 2.0, "The quick\nbrown <u>fox</u>"),
    ]


def test_equal_words_are_highlighted_one_at_a_time():
    talk = transcript(spoken(word(" no", 0, 1), word(" no", 0, 1), word(" no", 0, 1)))
    assert shown(talk, highlight_words=True)[:1] == ["<u>no</u> no no"]
    assert [text.index("<u>") for text in shown(talk, highlight_words=True)] == [0, 3, 6]


@pytest.mark.parametrize("start", [0.9, 1.0, 1.0004])
def test_nothing_is_shown_between_words_that_touch_or_overlap(start):
    talk = transcript(spoken(word(" a", 0.0, 1.0), word(" b", start, 2.0)))
    assert list(subtitles(talk, SubtitleOptions(highlight_words=True))) == [
        TimedText(0.0, 1.0, "<u>a</u> b"),
        TimedText(start, 2.0, "a <u>b</u>"),
    ]


@pytest.mark.parametrize("name", ["max_line_width", "max_line_count", "max_words_per_line"])
@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, True, "3"])
def test_a_limit_is_a_whole_number(name, value):
    with pytest.raises(
        OptionError, match=rf"^{name}: expected a whole number, at least 1.* got {re.escape(repr(value))}"
    ):
        SubtitleOptions(**{name: value})


@pytest.mark.parametrize("value", [None, 0, 1, "True"])
def test_highlighting_is_on_or_off(value):
    with pytest.raises(OptionError, match=r"^highlight_words: expected True or False, got"):
        SubtitleOptions(highlight_words=value)


# ------------------------------------------------------------------------------------------ properties of all subtitles

limits = st.none() | st.integers(1, 4)
all_options = st.builds(
    SubtitleOptions,
    max_line_width=st.none() | st.integers(1, 20),
    max_line_count=limits,
    highlight_words=st.booleans(),
    max_words_per_line=limits,
)


@st.composite
def talks(draw, texts) -> Transcript:
    """Draw up to four segments of up to six words each, none overlapping. {i} in a text is the word's number."""
    now = draw(st.sampled_from([0.0, 0.0, 3590.0, 360_000.0]))
    numbers = itertools.count()
    segments = []
    for _ in range(draw(st.integers(0, 4))):
        words = []
        for _ in range(draw(st.integers(0, 6))):
            start = now + draw(st.sampled_from([0.0, 0.0, 0.0003, 0.02, 1.0, 3.5]))
            now = start + draw(st.sampled_from([0.0, 0.02, 0.36, 2.9, 4.0]))
            words.append(word(draw(texts).format(i=next(numbers)), start, now))
        segments.append(spoken(*words) if words else segment("", now, now, []))
    return transcript(*segments)


numbered = st.sampled_from([" {i}", " ab{i}", " long-word-{i},", "x{i}", " x{i} ", " a\nb{i}"])


def numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]


def test_subtitles_show_each_word_once_and_keep_to_the_limits():
    seen = set()

    @settings(deadline=None, max_examples=400, derandomize=True)
    @given(talks(numbered), all_options)
    def check(talk, options):
        width, count, per_subtitle = options.max_line_width, options.max_line_count, options.max_words_per_line
        words = [each for part in talk["segments"] for each in part["words"]]
        homes = [home for home, part in enumerate(talk["segments"]) for _ in part["words"]]
        plain = list(subtitles(talk, SubtitleOptions(width, count, False, per_subtitle)))
        assert [n for subtitle in plain for n in numbers(subtitle.text)] == list(range(len(words)))
        for start, end, text in plain:
            here = numbers(text)
            assert (start, end) == (words[here[0]]["start"], words[here[-1]]["end"])
            lines = text.split("\n")
            assert len(lines) <= (count or 1000)
            for line in lines:
                assert line.lstrip() == line != ""
                assert len(line) <= (width or 1000) or len(numbers(line)) == 1
            for line, after in itertools.pairwise(lines):  # a line ends because the next word does not fit
                assert len(line) + len(words[numbers(after)[0]]["word"]) > (width or 1000)
                seen.add("line break")
            seen.update(["too long a word"] if width and len(lines[0]) > width else [])
            if width and count:
                starts = [words[n]["start"] for n in here]
                assert all(b - a <= LONG_PAUSE for a, b in itertools.pairwise(starts))
                seen.update(["over segments"] if homes[here[0]] != homes[here[-1]] else [])
            else:
                assert homes[here[0]] == homes[here[-1]]
                assert len(here) <= (per_subtitle or 1000)
                seen.update(["full"] if len(here) == per_subtitle else [])
        for one, after in itertools.pairwise(plain):  # a subtitle ends because it reaches one of its limits
            last, first = numbers(one.text)[-1], numbers(after.text)[0]
            full = one.text.count("\n") + 1 == count
            if width and count:
                pause = words[first]["start"] - words[last]["start"] > LONG_PAUSE
                assert full or pause
                seen.update(["pause"] if pause and not full else [])
            else:
                assert full or len(numbers(one.text)) == per_subtitle or homes[first] != homes[last]

        marked = list(subtitles(talk, SubtitleOptions(width, count, True, per_subtitle)))
        bare = [re.sub("</?u>", "", text) for _, _, text in marked]
        assert [text for text, _ in itertools.groupby(bare)] == [text for _, _, text in plain]
        underlined = [n for _, _, text in marked for part in re.findall("<u>(.*?)</u>", text) for n in numbers(part)]
        assert underlined == list(range(len(words)))
        assert all(start <= end for start, end, _ in marked)
        for (one, text), (after, next_text) in itertools.pairwise(zip(marked, bare, strict=True)):
            if text == next_text:  # the same subtitle, with another word underlined
                assert abs(after.start - one.end) < 0.001
            seen.update(["between words"] if "<u>" not in one.text else [])

    check()
    assert seen == {"line break", "too long a word", "over segments", "full", "pause", "between words"}


# ------------------------------------------------------------------------------------------ files


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of every file in a folder, read without functions that some tests replace."""
    found = {}
    for name in os.listdir(folder):
        with open(folder / name, "rb") as file:
            found[name] = file.read()
    return found


def test_every_format_is_written(tmp_path):
    options = SubtitleOptions(max_line_width=9, highlight_words=True)
    paths = write_transcript(TALK, tmp_path / "new" / "folder", "talk", options=options)
    assert paths == [tmp_path / "new" / "folder" / f"talk.{format}" for format in FORMATS]
    assert [path.read_bytes() for path in paths] == [render(TALK, format, options).encode() for format in FORMATS]
    assert len(contents(paths[0].parent)) == 5


@pytest.mark.parametrize("format", FORMATS)
def test_one_format_is_written(format, tmp_path):
    assert write_transcript(PLAIN, str(tmp_path), "a.b c", format) == [tmp_path / f"a.b c.{format}"]
    assert contents(tmp_path) == {f"a.b c.{format}": render(PLAIN, format).encode("utf-8")}


def test_lines_end_in_a_line_feed_on_every_platform(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "linesep", "\r\n")
    write_transcript(PLAIN, tmp_path, "talk")
    assert all(b"\r" not in data for data in contents(tmp_path).values())


def test_half_a_surrogate_pair_is_replaced(tmp_path):
    write_transcript(transcript(segment("a \ud83d b", 0, 1)), tmp_path, "talk", "txt")
    assert contents(tmp_path) == {"talk.txt": b"a ? b\n"}


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
    assert private.stat().st_mode & 0o777 == 0o600  # kept, as if the file had been overwritten


class FullDisk(io.FileIO):
    """A file that accepts half of what is written to it, and then raises an error."""

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


def test_if_one_file_cannot_be_written_the_others_are(tmp_path):
    (tmp_path / "talk.srt").mkdir()
    with pytest.raises(OptionError, match=r"cannot write 'talk\.srt': .*[Ii]s a directory; free some space there"):
        write_transcript(PLAIN, tmp_path, "talk")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(
        f"talk.{format}" for format in FORMATS if format != "srt"
    )


def test_names_that_cannot_be_written_are_found_in_advance(tmp_path):
    (tmp_path / "talk.srt").mkdir()
    (tmp_path / "talk.txt").write_text("old")
    check_file_names(tmp_path, "talk", "txt")
    longest = "n" * 250  # 255 bytes with the dot and the format
    check_file_names(tmp_path, longest, "json")
    assert write_transcript(PLAIN, tmp_path, longest, "json") == [tmp_path / f"{longest}.json"]
    with pytest.raises(OptionError, match=r"cannot write 'talk\.srt': there is a folder of this name; free some space"):
        check_file_names(tmp_path, "talk", "all")
    check_file_names(tmp_path, "n" * 251, "txt")
    with pytest.raises(OptionError, match=r"cannot write 'n+\.json': File name too long"):
        check_file_names(tmp_path, "n" * 251, "all")
    with pytest.raises(OptionError, match=r"cannot write .* null"):
        check_file_names(tmp_path, "a\0b", "all")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no users")
def test_another_users_file_in_a_shared_folder_is_found_in_advance(tmp_path, monkeypatch):
    (tmp_path / "talk.txt").write_text("theirs")
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 12345)
    check_file_names(tmp_path, "talk", "txt")  # check_writable checks the folder's permissions
    tmp_path.chmod(0o1777)  # as /tmp
    with pytest.raises(OptionError, match=r"cannot write 'talk\.txt': the file belongs to another user; "):
        check_file_names(tmp_path, "talk", "txt")
    check_file_names(tmp_path, "walk", "txt")


def test_if_one_format_cannot_be_rendered_none_is_written(tmp_path):
    with pytest.raises(OptionError):
        write_transcript(transcript(segment("a", -1.0, 1.0)), tmp_path, "talk")
    assert contents(tmp_path) == {}


def in_the_way_of_the_folder(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("mine")
    return tmp_path / "file"


def in_the_way_of_its_parent(tmp_path: Path) -> Path:
    return in_the_way_of_the_folder(tmp_path) / "folder"


@pytest.mark.parametrize("blocked", [in_the_way_of_the_folder, in_the_way_of_its_parent])
@pytest.mark.parametrize("use", [check_writable, lambda folder: write_transcript(PLAIN, folder, "talk")])
def test_a_file_in_the_way_is_named_and_kept(use, blocked, tmp_path):
    folder = blocked(tmp_path)
    with pytest.raises(OptionError, match=rf"^output_dir '{re.escape(str(folder))}': .* choose another folder$"):
        use(folder)
    assert contents(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize("method", ["mkdir", "open"])
@pytest.mark.parametrize("use", [check_writable, lambda folder: write_transcript(PLAIN, folder, "talk")])
def test_a_read_only_place_is_refused(use, method, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:  # tests may run as root, who can write everywhere
        patch.setattr(Path, method, refuse(OSError(errno.EROFS, "Read-only file system")))
        with pytest.raises(OptionError, match=r"^output_dir .*Read-only file system"):
            use(tmp_path)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("existing", [True, False])
def test_a_writable_folder_is_made_and_left_empty(existing, tmp_path, monkeypatch):
    folder = tmp_path if existing else tmp_path / "new" / "folder"
    proofs = []
    path_open = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode: proofs.append(path) or path_open(path, mode))
    check_writable(folder)
    assert [(path.parent, path.name[0]) for path in proofs] == [(folder, ".")]  # a hidden file
    assert contents(folder) == {}


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


def test_an_unknown_format_creates_no_folder(tmp_path):
    with pytest.raises(OptionError, match=r"output_format: expected one of txt, vtt, .*, ctm, html, all, got 'doc'"):
        write_transcript(PLAIN, tmp_path / "folder", "talk", "doc")
    assert contents(tmp_path) == {}


# ------------------------------------------------------------------------------------------ parity


@pytest.fixture(scope="module")
def theirs():
    """Return openai-whisper's writers as a function with the arguments of ``render``."""
    utils = pytest.importorskip("whisper.utils")

    def rendered(talk: Transcript, format: str, options: SubtitleOptions) -> str:
        file = io.StringIO()
        utils.get_writer(format, "").write_result(talk, file=file, options=vars(options))
        return file.getvalue()

    return rendered


def with_escapes(theirs, talk: Transcript, format: str, options: SubtitleOptions) -> str:
    """Return what openai-whisper would write if it escaped ``&`` and ``<`` in WebVTT."""
    if format != "vtt":
        return theirs(talk, format, options)
    masked = json.loads(json.dumps(talk, ensure_ascii=False).translate({ord("&"): "\ue000", ord("<"): "\ue001"}))
    return theirs(masked, format, options).replace("\ue000", "&amp;").replace("\ue001", "&lt;")


@pytest.mark.parity
@pytest.mark.parametrize("talk", [TALK, PLAIN, NOTHING], ids=["words", "no words", "nothing"])
def test_files_are_openai_whispers_byte_for_byte(talk, tmp_path):
    utils = pytest.importorskip("whisper.utils")
    options = SubtitleOptions(max_line_width=12, highlight_words=True)
    (tmp_path / "theirs").mkdir()
    utils.get_writer("all", str(tmp_path / "theirs"))(talk, "sounds/talk.flac", vars(options))
    write_transcript(talk, tmp_path / "ours", "talk", options=options)
    ours = contents(tmp_path / "ours")
    assert len(ours) == 5
    assert ours == {name: data.replace(b"\r\n", b"\n") for name, data in contents(tmp_path / "theirs").items()}


said = st.sampled_from([" a", " Hello,", " it's", "今", " «Ну»", " two words", " tail ", "\tx", " -", ">", " <u>", "é"])


@pytest.mark.parity
def test_words_give_the_subtitles_of_openai_whisper(theirs):
    seen = set()

    @settings(deadline=None, max_examples=500, derandomize=True)
    @given(talks(said), all_options)
    def check(talk, options):
        for format in FORMATS:
            ours = render(talk, format, options)
            assert ours == with_escapes(theirs, talk, format, options)
            if format == "srt":
                seen.update(["hours"] if "100:00:0" in ours else [])
                seen.update(["lines"] if re.search(r"\n.+-->.+\n.+\n.+\n", ours) else [])
                combination = tuple(value not in (None, False) for value in vars(options).values())
                seen.update([combination] if ours.count("-->") > 2 else [])

    check()
    assert seen == {"hours", "lines", *itertools.product((False, True), repeat=4)}


@pytest.mark.parity
def test_segments_give_the_files_of_openai_whisper(theirs):
    seen = set()
    texts = st.lists(st.sampled_from([" a", "-->", "\t", " ", '"', "é", "今", "&", "😀"]), max_size=6).map("".join)
    parts = st.builds(segment, texts, st.floats(0, 1e6), st.floats(0, 1e6))

    @settings(deadline=None, max_examples=200, derandomize=True)
    @given(st.lists(parts, max_size=4).map(lambda segments: transcript(*segments)), all_options)
    def check(talk, options):
        for format in FORMATS:
            assert render(talk, format, options) == with_escapes(theirs, talk, format, options)
        seen.update("arrow" for part in talk["segments"] if "-->" in part["text"])
        seen.update("tab" for part in talk["segments"] if "\t" in part["text"].strip())
        seen.add(len(talk["segments"]))

    check()
    assert seen == {"arrow", "tab", 0, 1, 2, 3, 4}


BROKEN = {
    "an arrow among words": (transcript(spoken(word(" -->", 0, 1))), {}, "srt", "\n->\n"),
    "an arrow of two words": (transcript(spoken(word(" ---", 0, 1), word(">", 1, 2))), {}, "vtt", "\n->\n"),
    "a longer arrow": (transcript(segment("--->", 0, 1)), {}, "vtt", "\n->\n"),
    "a line break in a line": (transcript(segment("a\nb", 0, 1)), {}, "txt", "a b\n"),
    "a line break in a subtitle": (transcript(segment("a\n\nb", 0, 1)), {}, "srt", "\na  b\n\n"),
    "a line break in a word": (transcript(spoken(word("a\n\nb", 0, 1))), {}, "vtt", "\na  b\n\n"),
    "a line break in a table": (transcript(segment("a\nb", 0, 1)), {}, "tsv", "\n0\t1000\ta b\n"),
    "a tag": (transcript(segment("<b> & <c>", 0, 1)), {}, "vtt", "\n&lt;b> &amp; &lt;c>\n"),
    "a tag in a highlighted word": (
        transcript(spoken(word(" a<b", 0, 1), word(" R&D", 1, 2))),
        {"highlight_words": True, "max_line_width": 7, "max_line_count": 1},
        "vtt",
        "\n<u>a&lt;b</u> R&amp;D\n",
    ),
    "a NUL in WebVTT": (transcript(segment("a\0b", 0, 1)), {}, "vtt", "\na\N{REPLACEMENT CHARACTER}b\n"),
    "a NUL in SubRip": (transcript(segment("a\0b", 0, 1)), {}, "srt", "\na\N{REPLACEMENT CHARACTER}b\n"),
    "words that overlap": (
        transcript(spoken(word(" a", 0, 2), word(" b", 1, 3))),
        {"highlight_words": True},
        "srt",
        "\n<u>a</u> b\n\n2\n00:00:01,000 --> 00:00:03,000\n",
    ),
    "a blank word": (
        transcript(spoken(word(" ", 0, 1), word(" a", 1, 2))),
        {"max_line_width": 9, "max_line_count": 1},
        "srt",
        "1\n00:00:01,000 --> 00:00:02,000\na\n",
    ),
    "text without words": (transcript(FOX, segment(" lost", 3, 4, [])), {}, "vtt", "\nlost\n"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_files_are_valid_for_any_text(what):
    talk, chosen, format, expected = BROKEN[what]
    assert expected in render(talk, format, SubtitleOptions(**chosen))


@pytest.mark.parity
@pytest.mark.parametrize("what", BROKEN)
def test_bugs_of_openai_whisper_are_not_copied(what, theirs):
    talk, chosen, format, expected = BROKEN[what]
    options = SubtitleOptions(**chosen)
    assert expected in render(talk, format, options)
    assert expected not in theirs(talk, format, options)


@pytest.mark.parity
def test_openai_whisper_fails_for_some_segments_without_words(theirs):
    with pytest.raises(KeyError):
        theirs(transcript(FOX, segment(" lost", 3, 4)), "srt", SubtitleOptions())

"""Formats of words: exact examples; hostile text and times, read back by public libraries or the format's grammar."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.compat.utils import get_writer
from minwhisper.errors import OptionError
from minwhisper.transcription.segments import Segment, Transcript, Word
from minwhisper.writers.files import write_transcript
from minwhisper.writers.render import parse_formats, render
from minwhisper.writers.subtitles import SubtitleOptions
from minwhisper.writers.words import NEED_WORDS, WORD_FORMATS
from word_readers import Read, read_ctm, read_labels, read_textgrid, read_tsv, read_vtt, read_with_praatio


def word(text: str, start: float, end: float, probability: float = 0.5) -> Word:
    return {"word": text, "start": start, "end": end, "probability": probability}


def segment(id: int, text: str, start: float, end: float, words: list[Word] | None) -> Segment:
    made: Segment = {
        "id": id,
        "seek": 0,
        "start": start,
        "end": end,
        "text": text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": -0.25,
        "compression_ratio": 1.5,
        "no_speech_prob": 0.01,
    }
    if words is not None:
        made["words"] = words
    return made


def transcript(*parts: list[Word]) -> Transcript:
    """Return a transcript with a segment of each list of words."""
    segments = [
        segment(id, "".join(each["word"] for each in words), words[0]["start"], words[-1]["end"], words)
        for id, words in enumerate(parts)
        if words
    ]
    return {"text": "".join(each["text"] for each in segments), "segments": segments, "language": "en"}


TALK = transcript(
    [word(' "Ask', 0.5, 0.7, 0.98765), word(" not", 0.7, 1.0), word(" what", 1.2, 1.5)],
    [word(" R&D", 3601.5, 3602.0, 1.0), word("-wise.", 3602.0, 3602.25, 0.0)],
)
WITHOUT_WORDS: Transcript = {"text": " Hi.", "segments": [segment(0, " Hi.", 0.5, 1.25, None)], "language": "en"}
NOTHING = transcript()
INTERVAL = """\
        intervals [{}]:
            xmin = {}
            xmax = {}
            text = "{}"
"""


def tier(number: int, name: str, *intervals: tuple[str, str, str]) -> str:
    return (
        f'    item [{number}]:\n        class = "IntervalTier"\n        name = "{name}"\n        xmin = 0\n'
        f"        xmax = 3602.250\n        intervals: size = {len(intervals)}\n"
    ) + "".join(INTERVAL.format(place, *each) for place, each in enumerate(intervals, start=1))


EXAMPLES = {
    "words.vtt": (
        "WEBVTT\n\n"
        "00:00:00.500 --> 00:00:01.500\n"
        '<c>"Ask</c> <00:00:00.700><c>not</c> <00:00:01.200><c>what</c>\n\n'
        "01:00:01.500 --> 01:00:02.250\n<c>R&amp;D</c><01:00:02.000><c>-wise.</c>\n\n"
    ),
    "words.tsv": (
        'start\tend\tprobability\tword\tsegment\n500\t700\t0.9877\t"""Ask"\t0\n700\t1000\t0.5000\tnot\t0\n'
        "1200\t1500\t0.5000\twhat\t0\n3601500\t3602000\t1.0000\tR&D\t1\n3602000\t3602250\t0.0000\t-wise.\t1\n"
    ),
    "labels.txt": (
        '0.500000\t0.700000\t"Ask\n0.700000\t1.000000\tnot\n1.200000\t1.500000\twhat\n'
        "3601.500000\t3602.000000\tR&D\n3602.000000\t3602.250000\t-wise.\n"
    ),
    "ctm": (
        'my_talk 1 0.500 0.200 "Ask 0.9877\nmy_talk 1 0.700 0.300 not 0.5000\nmy_talk 1 1.200 0.300 what 0.5000\n'
        "my_talk 1 3601.500 0.500 R&D 1.0000\nmy_talk 1 3602.000 0.250 -wise. 0.0000\n"
    ),
    "TextGrid": (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 3602.250\ntiers? <exists>\nsize = 2\n'
        "item []:\n"
        + tier(
            1,
            "segments",
            ("0.000", "0.500", ""),
            ("0.500", "1.500", '""Ask not what'),
            ("1.500", "3601.500", ""),
            ("3601.500", "3602.250", "R&D-wise."),
        )
        + tier(
            2,
            "words",
            ("0.000", "0.500", ""),
            ("0.500", "0.700", '""Ask'),
            ("0.700", "1.000", "not"),
            ("1.000", "1.200", ""),
            ("1.200", "1.500", "what"),
            ("1.500", "3601.500", ""),
            ("3601.500", "3602.000", "R&D"),
            ("3602.000", "3602.250", "-wise."),
        )
    ),
}


def test_each_format_of_an_example(tmp_path):
    paths = write_transcript(TALK, tmp_path, "my talk", "words.vtt,words.tsv,labels.txt,ctm,TextGrid")
    assert {path.name.removeprefix("my talk."): path.read_text("utf-8") for path in paths} == EXAMPLES


# ------------------------------------------------------------------------------------------ properties


def cleaned(text: str) -> str:
    return " ".join(text.replace("\t", " ").replace("\0", "\N{REPLACEMENT CHARACTER}").splitlines()).strip()


def expected(talk: Transcript) -> list[Read]:
    """Return the words that a file should have, in order."""
    return [
        Read(
            round(each["start"] * 1000),
            round(max(each["start"], each["end"]) * 1000),
            cleaned(each["word"]),
            round(each["probability"], 4),
            part["id"],
        )
        for part in talk["segments"]
        for each in part["words"]
        if each["word"].strip()
    ]


def only(found: list[Read], *fields: str) -> list[tuple[object, ...]]:
    return [tuple(getattr(each, field) for field in fields) for each in found]


KEYWORD = "intervals [1]:"  # praatio looks for it in labels, too
PIECES = [" ", "a", "Hello,", "--", "-", ">", "-->", "->", "<", "</c>", "<00:00:01.000>", "&", "&amp;", "&lt;"]
PIECES += ['"', '""', "'", ";;", "\\", "!", "=1+1", "WEBVTT", "NOTE", "שלום", "e\u0301", "今日", "😀\u200d👧", "\u202e"]
PIECES += ["\t", "\n", "\r\n", "\v", "\x1c", "\x1f", "\u2028", "\x85", "\xa0", "\0", "\x01", "\x1b[31m"]
PIECES += ["text =", "xmin = 0", KEYWORD]
texts = st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
# Of 0.1 ms at the finest, which every format can hold: a label has six decimals.
times = st.one_of(st.integers(0, 500).map(lambda step: step * 0.02), st.floats(0, 10), st.floats(3599.9, 3600.1)).map(
    lambda time: round(time, 4)
)
probabilities = st.floats(0, 1)


def has_text(words: list[Word]) -> bool:
    return any(each["word"].strip() for each in words)


@st.composite
def any_talks(draw: Callable) -> Transcript:
    """Return a transcript whose words may overlap, end before they start, and be in any order."""
    words = st.lists(st.builds(word, texts, times, times, probabilities), max_size=5).filter(has_text)
    return transcript(*draw(st.lists(words, max_size=3)))


@st.composite
def orderly_talks(draw: Callable) -> Transcript:
    """Return a transcript of words of a millisecond or more that follow each other, with hostile text."""
    parts: list[list[Word]] = [[]]
    time = 0
    for text in draw(st.lists(texts, max_size=8)):
        time += draw(st.sampled_from([0, 0, 20, 1001, 3_599_000]))
        length = draw(st.sampled_from([1, 20, 333]))
        parts[-1].append(word(text or " a", time / 1000, (time + length) / 1000, draw(probabilities)))
        time += length
        if draw(st.booleans()) and has_text(parts[-1]):
            parts.append([])
    return transcript(*filter(has_text, parts))


def test_tables_labels_and_ctm_have_every_word_time_and_probability():
    @settings(deadline=None, max_examples=150, derandomize=True)
    @given(any_talks())
    def check(talk):
        words = expected(talk)
        assert read_tsv(render(talk, "words.tsv")) == words
        assert only(read_labels(render(talk, "labels.txt")), "start", "end", "text") == only(
            words, "start", "end", "text"
        )
        in_ctm = [each._replace(text="_".join(each.text.split()), segment=None) for each in words]
        assert read_ctm(render(talk, "ctm")) == sorted(in_ctm, key=lambda each: each.start)

    check()


def test_webvtt_has_every_word_and_is_valid_for_any_times():
    options = st.builds(SubtitleOptions, st.sampled_from([None, 5, 30]), st.sampled_from([None, 1, 2]), st.booleans())

    @settings(deadline=None, max_examples=150, derandomize=True)
    @given(any_talks(), options)
    def check(talk, options):
        cues = read_vtt(render(talk, "words.vtt", options))
        assert only([*itertools.chain(*cues)], "text") == only(expected(talk), "text")

    check()


def test_webvtt_has_the_start_of_each_word():
    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(orderly_talks())
    def check(talk):
        read = [*itertools.chain(*read_vtt(render(talk, "words.vtt")))]
        assert only(read, "start", "text") == only(expected(talk), "start", "text")

    check()


def test_a_textgrid_has_every_word_and_is_valid_for_any_times():
    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(any_talks())
    def check(talk):
        tiers = read_textgrid(render(talk, "TextGrid"))
        in_order = sorted(expected(talk), key=lambda each: each.start)
        assert only(tiers["words"], "text") == only(in_order, "text")
        assert len(tiers["segments"]) == len(talk["segments"])

    check()


def test_a_textgrid_has_the_times_of_words_that_do_not_overlap(tmp_path):
    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(orderly_talks())
    def check(talk):
        text = render(talk, "TextGrid")
        tiers = read_textgrid(text)
        if not any(KEYWORD in part["text"] for part in talk["segments"]):
            assert read_with_praatio(text, tmp_path / "a.TextGrid") == tiers
        assert only(tiers["words"], "start", "end", "text") == only(expected(talk), "start", "end", "text")
        parts = [
            (round(each["start"] * 1000), round(each["end"] * 1000), cleaned(each["text"])) for each in talk["segments"]
        ]
        assert only(tiers["segments"], "start", "end", "text") == parts

    check()


# ------------------------------------------------------------------------------------------ details


def test_an_interval_that_overlaps_the_next_ends_where_that_starts():
    talk = transcript([word("a", 1.0, 2.0), word("b", 1.5, 1.8), word("c", 1.5, 1.5)])
    found = read_textgrid(render(talk, "TextGrid"))["words"]
    assert found == [Read(1000, 1500, "a"), Read(1500, 1501, "b"), Read(1501, 1502, "c")]


def test_subtitle_options_group_the_words_of_webvtt():
    options = SubtitleOptions(max_line_width=9, max_line_count=2, highlight_words=True)
    text = render(transcript([word(" one", 0, 1), word(" two", 1, 2), word(" three", 2, 3)]), "words.vtt", options)
    assert text.splitlines()[3:] == ["<c>one</c> <00:00:01.000><c>two</c>", "<00:00:02.000><c>three</c>", ""]


@pytest.mark.parametrize(
    ("name", "shown"), [("a b\u3000c", "a_b_c"), (";;talk", "_;;talk"), (" ", "audio"), ("día", "día")]
)
def test_a_name_is_one_column_of_ctm_and_no_comment(name, shown):
    assert render(transcript([word("a", 0, 1)]), "ctm", name=name) == f"{shown} 1 0.000 1.000 a 0.5000\n"


def test_a_segment_without_words_among_others_is_kept():
    talk = transcript([word("a", 0, 1)], [word("lost", 1, 2)])
    talk["segments"][1]["words"] = []
    assert render(talk, "words.tsv").endswith("\n1000\t2000\t\tlost\t1\n")
    assert render(talk, "ctm").endswith("\naudio 1 1.000 1.000 lost\n")
    assert read_vtt(render(talk, "words.vtt"))[1] == [Read(1000, None, "lost")]


def test_without_words_labels_are_segments_and_other_formats_say_what_to_do(tmp_path):
    assert render(WITHOUT_WORDS, "labels.txt") == "0.500000\t1.250000\tHi.\n"
    for format in NEED_WORDS:
        with pytest.raises(OptionError, match=f"output_format {format}: .* transcribe with word_timestamps=True"):
            write_transcript(WITHOUT_WORDS, tmp_path, "talk", f"txt,{format}")
    assert [*tmp_path.iterdir()] == []


def test_a_transcript_of_nothing_gives_valid_files():
    assert [render(NOTHING, format) for format in ("words.vtt", "labels.txt", "ctm")] == ["WEBVTT\n\n", "", ""]
    assert read_tsv(render(NOTHING, "words.tsv")) == []
    assert read_textgrid(render(NOTHING, "TextGrid")) == {"segments": [], "words": []}


@pytest.mark.parametrize("format", WORD_FORMATS)
@pytest.mark.parametrize("bad", [word("a", -1.0, 1.0), word("a", 0.0, float("inf")), word("a", float("nan"), 1.0)])
def test_impossible_times_are_refused(format, bad):
    with pytest.raises(OptionError, match="a time in the transcript"):
        render(transcript([bad]), format)


@pytest.mark.parametrize("format", ["words.tsv", "ctm"])
@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_impossible_probabilities_are_refused(format, bad):
    with pytest.raises(OptionError, match=r"a probability in the transcript: expected a number from 0 to 1, got"):
        render(transcript([word("a", 0.0, 1.0, bad)]), format)


def test_several_formats_are_named_with_commas_and_all_stays_what_it_was(tmp_path):
    assert parse_formats("all") == ("txt", "vtt", "srt", "tsv", "json")
    assert parse_formats("ctm, all,srt") == ("ctm", "txt", "vtt", "srt", "tsv", "json")
    get_writer("srt,ctm", str(tmp_path))(TALK, "talks/talk.mp3")
    get_writer("TextGrid", str(tmp_path))(TALK, "talks/talk.mp3")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.TextGrid", "talk.ctm", "talk.srt"]
    for bad in ("", "srt,", "srt;ctm", "SRT", None):
        with pytest.raises(OptionError, match="output_format: expected one of txt"):
            parse_formats(bad)

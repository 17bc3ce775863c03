"""Word-level formats: exact examples, and hostile texts and times read back by libraries or the format's grammar."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_transcripts import segment, spoken, transcript, word
from minwhisper.compat.utils import get_writer
from minwhisper.errors import OptionError
from minwhisper.transcription.segments import Transcript, Word
from minwhisper.writers.files import write_transcript
from minwhisper.writers.render import parse_formats, render
from minwhisper.writers.subtitles import SubtitleOptions
from minwhisper.writers.words import NEED_WORDS, WORD_FORMATS
from word_readers import Read, read_ctm, read_labels, read_textgrid, read_tsv, read_vtt, read_with_praatio


def talk_of(*parts: list[Word]) -> Transcript:
    """Return a transcript with one segment per list of words."""
    return transcript(*(spoken(*words) for words in parts))


WITHOUT_WORDS = transcript(segment(" Hi.", 0.5, 1.25))
NOTHING = transcript()

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


KEYWORD = "intervals [1]:"  # praatio looks for it even in labels
PIECES = [" ", "a", "Hello,", "--", "-", ">", "-->", "->", "<", "</c>", "<00:00:01.000>", "&", "&amp;", "&lt;"]
PIECES += ['"', '""', "'", ";;", "\\", "!", "=1+1", "WEBVTT", "NOTE", "שלום", "e\u0301", "今日", "😀\u200d👧", "\u202e"]
PIECES += ["\t", "\n", "\r\n", "\v", "\x1c", "\x1f", "\u2028", "\x85", "\xa0", "\0", "\x01", "\x1b[31m"]
PIECES += ["text =", "xmin = 0", KEYWORD]
texts = st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
# Multiples of 0.1 ms, which every format can hold: a label has six decimals.
times = st.one_of(st.integers(0, 500).map(lambda step: step * 0.02), st.floats(0, 10), st.floats(3599.9, 3600.1)).map(
    lambda time: round(time, 4)
)
probabilities = st.floats(0, 1)


def has_text(words: list[Word]) -> bool:
    return any(each["word"].strip() for each in words)


@st.composite
def any_talks(draw: Callable) -> Transcript:
    """Draw a transcript whose words may overlap, end before they start, and be in any order."""
    words = st.lists(st.builds(word, texts, times, times, probabilities), max_size=5).filter(has_text)
    return talk_of(*draw(st.lists(words, max_size=3)))


@st.composite
def orderly_talks(draw: Callable) -> Transcript:
    """Draw a transcript of consecutive words of at least a millisecond each, with hostile text."""
    parts: list[list[Word]] = [[]]
    time = 0
    for text in draw(st.lists(texts, max_size=8)):
        time += draw(st.sampled_from([0, 0, 20, 1001, 3_599_000]))
        length = draw(st.sampled_from([1, 20, 333]))
        parts[-1].append(word(text or " a", time / 1000, (time + length) / 1000, draw(probabilities)))
        time += length
        if draw(st.booleans()) and has_text(parts[-1]):
            parts.append([])
    return talk_of(*filter(has_text, parts))


def test_every_format_has_every_word_and_is_valid_for_any_times():
    options = st.builds(SubtitleOptions, st.sampled_from([None, 5, 30]), st.sampled_from([None, 1, 2]), st.booleans())

    @settings(deadline=None, max_examples=120, derandomize=True)
    @given(any_talks(), options)
    def check(talk, options):
        words = expected(talk)
        in_order = sorted(words, key=lambda each: each.start)
        assert read_tsv(render(talk, "words.tsv")) == words
        labels = read_labels(render(talk, "labels.txt"))
        assert only(labels, "start", "end", "text") == only(words, "start", "end", "text")
        in_ctm = [each._replace(text="_".join(each.text.split()), segment=None) for each in in_order]
        assert read_ctm(render(talk, "ctm")) == in_ctm
        cues = read_vtt(render(talk, "words.vtt", options))
        assert only([*itertools.chain(*cues)], "text") == only(words, "text")
        tiers = read_textgrid(render(talk, "TextGrid"))
        assert only(tiers["words"], "text") == only(in_order, "text")
        assert len(tiers["segments"]) == len(talk["segments"])

    check()


def test_webvtt_and_a_textgrid_have_the_times_of_words_that_follow_each_other(tmp_path):
    @settings(deadline=None, max_examples=80, derandomize=True)
    @given(orderly_talks())
    def check(talk):
        words = expected(talk)
        cues = read_vtt(render(talk, "words.vtt"))
        assert only([*itertools.chain(*cues)], "start", "text") == only(words, "start", "text")
        text = render(talk, "TextGrid")
        tiers = read_textgrid(text)
        if not any(KEYWORD in part["text"] for part in talk["segments"]):
            assert read_with_praatio(text, tmp_path / "a.TextGrid") == tiers
        assert only(tiers["words"], "start", "end", "text") == only(words, "start", "end", "text")
        parts = [
            (round(each["start"] * 1000), round(each["end"] * 1000), cleaned(each["text"])) for each in talk["segments"]
        ]
        assert only(tiers["segments"], "start", "end", "text") == parts

    check()


# ------------------------------------------------------------------------------------------ details


def test_an_interval_that_overlaps_the_next_ends_where_that_starts():
    talk = talk_of([word("a", 1.0, 2.0), word("b", 1.5, 1.8), word("c", 1.5, 1.5)])
    found = read_textgrid(render(talk, "TextGrid"))["words"]
    assert found == [Read(1000, 1500, "a"), Read(1500, 1501, "b"), Read(1501, 1502, "c")]


def test_subtitle_options_group_the_words_of_webvtt():
    options = SubtitleOptions(max_line_width=9, max_line_count=2, highlight_words=True)
    text = render(talk_of([word(" one", 0, 1), word(" two", 1, 2), word(" three", 2, 3)]), "words.vtt", options)
    assert text.splitlines()[3:] == ["<c>one</c> <00:00:01.000><c>two</c>", "<00:00:02.000><c>three</c>", ""]


@pytest.mark.parametrize(
    ("name", "shown"), [("a b\u3000c", "a_b_c"), (";;talk", "_;;talk"), (" ", "audio"), ("día", "día")]
)
def test_a_name_is_one_column_of_ctm_and_no_comment(name, shown):
    assert render(talk_of([word("a", 0, 1)]), "ctm", name=name) == f"{shown} 1 0.000 1.000 a 0.5000\n"


def test_a_segment_without_words_among_others_is_kept():
    talk = talk_of([word("a", 0, 1)], [word("lost", 1, 2)])
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


def test_an_empty_transcript_gives_valid_files():
    assert [render(NOTHING, format) for format in ("words.vtt", "labels.txt", "ctm")] == ["WEBVTT\n\n", "", ""]
    assert read_tsv(render(NOTHING, "words.tsv")) == []
    assert read_textgrid(render(NOTHING, "TextGrid")) == {"segments": [], "words": []}


@pytest.mark.parametrize("format", WORD_FORMATS)
def test_impossible_times_and_probabilities_are_refused(format):
    for times in ((-1.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)):
        with pytest.raises(OptionError, match="a time in the transcript"):
            render(talk_of([word("a", *times)]), format)
    for bad in (-0.1, 1.1, float("nan")) if format in ("words.tsv", "ctm") else ():
        with pytest.raises(OptionError, match=r"a probability in the transcript: expected a number from 0 to 1, got"):
            render(talk_of([word("a", 0.0, 1.0, bad)]), format)


def test_several_formats_are_named_with_commas_and_all_stays_what_it_was(tmp_path):
    assert parse_formats("all") == ("txt", "vtt", "srt", "tsv", "json")
    assert parse_formats("ctm, all,srt") == ("ctm", "txt", "vtt", "srt", "tsv", "json")
    get_writer("srt,ctm", str(tmp_path))(talk_of([word(" a", 0, 1)]), "talks/talk.mp3")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.ctm", "talk.srt"]
    for bad in ("", "srt,", "srt;ctm", "SRT", None):
        with pytest.raises(OptionError, match="output_format: expected one of txt"):
            parse_formats(bad)

"""The tokenizer: special tokens, encoding and decoding, and two real vocabularies."""

import json
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import DATA
from minwhisper.errors import LanguageError, TokenizerError
from minwhisper.tokenizer.bpe import bytes_to_unicode, merge
from minwhisper.tokenizer.tokenizer import Tokenizer
from vocabularies import SIZES, TEXT, installed, made_up_tokenizer

# Greetings and small talk in many scripts, then unusual characters.
TEXTS = {
    "sentences of a book": (DATA / "lj_texts.csv").read_text("utf-8"),
    "Latin, Greek, Cyrillic": "Straße, naïve, Đặng, İstanbul, ǆ. Καλημέρα κόσμε, τι κάνεις; Ёлка і їжак.",
    "Caucasus": "Բարեւ, ինչպե՞ս ես։ გამარჯობა მსოფლიო",
    "Near East": "שָׁלוֹם עוֹלָם, מה נשמע? مرحباً بالعالم، كيف حالك؟ ٤٢ ܫܠܡܐ ܥܠܡܐ",
    "North India": "नमस्ते दुनिया, आप कैसे हैं? ४२ ওহে বিশ্ব, কেমন আছো? ৪২ ਸਤ ਸ੍ਰੀ ਅਕਾਲ નમસ્તે દુનિયા ନମସ୍କାର ଦୁନିଆ",
    "South India": "வணக்கம் உலகம் నమస్కారం ప్రపంచం ನಮಸ್ಕಾರ ಜಗತ್ತು നമസ്കാരം ലോകം ආයුබෝවන් ලෝකය އައްސަލާމް",
    "South-East Asia": "สวัสดีชาวโลก ๔๒ ສະບາຍດີ བཀྲ་ཤིས་བདེ་ལེགས། ༤༢ မင်္ဂလာပါ ကမ္ဘာ ၄၂ សួស្តី ពិភពលោក",
    "East Asia": "안녕하세요, 세상아! こんにちは、セカイ。ﾊﾟｿｺﾝ 你好,世界。四十二㊷",
    "Africa, America, history": "ሰላም ዓለም፡ ፵፪ ᎣᏏᏲ 𐌷𐌰𐌹𐌻𐍃",
    "empty": "",
    "contractions": "I'm you're he's we've they'll I'd don't 'S 'LL 's's ''s o'clock rock'n'roll It’s",
    "digits of other scripts": "0123 ٠١٢ ०१२ ๐๑๒ ０１２ 𝟘𝟙𝟚 ½ ² Ⅳ ④ 〇",
    "emoji": "👋🏽 👩‍👩‍👧‍👦 🇩🇪🇫🇷 ❤️ 🏴󠁧󠁢󠁳󠁣󠁴󠁿 1️⃣ ☺",
    "controls": "".join(map(chr, range(32))) + "\x7f\x80\x84\x86\x9f a\x00b \x1c\x1d\x1e\x1f x",
    "whitespace": "a\tb\nc\r\nd\x0be\x0cf  g\u00a0h\u1680i\u2000\u2003j\u2028k\u2029l\u202fm\u205fn\u3000o \n \t ",
    "spaces at both ends": "   three before, three after   ",
    "not whitespace": "a\u200bb\u200cc\u200dd\u2060e\ufefff\u180eg",
    "combining": "e\u0301 n\u0303 क\u094dष \u0301",
    "symbols": '[APPLAUSE] (laughs) ♪ la-la ♫ "quoted" — … ??? !!! --- <<>> C++ #1 50% a_b',
    "names of special tokens": "<|endoftext|> <|en|><|0.00|> <|nothing|> |>",
    "long runs": "a" * 300 + " " * 40 + "!" * 70 + "\n" * 9 + "1234567890" * 8,
    "a long word without spaces": "文字列を切らずに並べた長い一語" * 20,
    "private and last": "\ue000 \U0010fffd \uffff",
}

# ------------------------------------------------------------------------------------------ special tokens


@pytest.fixture(scope="module")
def english():
    return made_up_tokenizer(51864)


@pytest.fixture(scope="module")
def multilingual():
    return made_up_tokenizer(51865)


@pytest.mark.parametrize("size", SIZES)
def test_timestamps(size):
    t = made_up_tokenizer(size)
    times = [t.timestamp_seconds(token) for token in range(t.timestamp_begin, size)]
    assert (times[0], times[-1]) == (0.0, 30.0)
    assert [t.name(token) for token in range(t.timestamp_begin, size)] == [f"<|{time:.2f}|>" for time in times]
    for token in (t.no_timestamps, size, 0):
        with pytest.raises(TokenizerError, match=f"token {token} is not a timestamp"):
            t.timestamp_seconds(token)


@pytest.mark.parametrize(
    ("name", "code"),
    [("de", "de"), (" GERMAN ", "de"), ("EN", "en"), ("Mandarin", "zh"), ("haitian creole", "ht"), ("Haitian", "ht")],
)
def test_language_by_any_name(multilingual, name, code):
    assert multilingual.language_code(name) == code
    assert multilingual.name(multilingual.language_token(name)) == f"<|{code}|>"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("germn", r"'germn'.*did you mean .*'german'"),
        ("fr-FR", r"'fr-FR'.*did you mean 'fr'\?"),
        ("12345", r"'12345'.*such as 'de' or 'german'; Tokenizer.languages"),
        ("", "''"),
        ("yue", r"'yue'.*no token for Cantonese \(yue\).*large-v3"),
        ("cantonese", r"'cantonese'.*no token for Cantonese \(yue\).*large-v3"),
    ],
)
def test_unknown_language(multilingual, name, message):
    with pytest.raises(LanguageError, match=message):
        multilingual.language_token(name)


def test_sot_sequence(english, multilingual):
    assert multilingual.sot_sequence("de", "transcribe", True) == (50258, 50261, 50359)
    assert multilingual.sot_sequence("German", "translate", False) == (50258, 50261, 50358, 50363)
    assert english.sot_sequence(None, "transcribe", True) == (50257,)
    assert english.sot_sequence("English", "transcribe", False) == (50257, 50362)
    large = made_up_tokenizer(51866)
    assert large.sot_sequence("Cantonese", "transcribe", False) == (50258, 50358, 50360, 50364)


def test_invalid_task_or_language(english, multilingual):
    with pytest.raises(TokenizerError, match=r"'transcript'.*'transcribe' or 'translate'"):
        multilingual.sot_sequence("en", "transcript", True)
    with pytest.raises(TokenizerError, match=r"English-only.*cannot translate.*'base'"):
        english.sot_sequence(None, "translate", True)
    with pytest.raises(LanguageError, match=r"'de'.*English only.*'base'"):
        english.sot_sequence("de", "transcribe", True)
    with pytest.raises(LanguageError, match="name it, or detect it"):
        multilingual.sot_sequence(None, "transcribe", True)


# ------------------------------------------------------------------------------------------ text


@settings(deadline=None)
@given(TEXT | st.text(st.characters(exclude_categories=["Cs"])))  # includes unassigned characters
def test_decoding_an_encoded_text(multilingual, text):
    assert multilingual.decode(multilingual.encode(text)) == text


@pytest.mark.parametrize("text", ["\ud800", "so far \udfff so good", "\ude00\ud83d"])
def test_a_lone_surrogate(multilingual, text):
    with pytest.raises(TokenizerError, match=r"cannot encode '\\ud.*surrogate"):
        multilingual.encode(text)


def test_decoding_special_tokens(multilingual):
    t = multilingual
    tokens = [t.sot, t.timestamp_begin, *t.encode("so"), t.timestamp_begin + 54, t.eot]
    assert t.decode(tokens) == "<|startoftranscript|>so<|endoftext|>"
    assert t.decode_with_timestamps(tokens) == "<|startoftranscript|><|0.00|>so<|1.08|><|endoftext|>"


def byte_tokens(t, text):
    """Return one token per byte of the text."""
    return [t._ids[char] for char in bytes_to_unicode(text.encode())]


def test_incomplete_characters(multilingual):
    t = multilingual
    start, middle, end = byte_tokens(t, "♪")
    assert [t.token_bytes(token) for token in (start, middle, end)] == [b"\xe2", b"\x99", b"\xaa"]
    assert t.name(start) == r"\xe2"
    # A timestamp is omitted from the text; the name of a special token is text, and splits the character.
    assert t.decode([start, middle, t.timestamp_begin, end]) == "♪"
    assert t.decode([start, middle, t.eot, end]) == "\ufffd<|endoftext|>\ufffd"


@pytest.mark.parametrize("token", [-1, 51865, 10**9])
def test_ids_outside_the_vocabulary(multilingual, token):
    for decode in (multilingual.decode, multilingual.decode_with_timestamps, lambda tokens: multilingual.name(token)):
        with pytest.raises(TokenizerError, match=f"token {token}: expected an id from 0 to 51864"):
            decode([0, token])


def test_decode_stream_yields_each_character_when_it_is_complete(multilingual):
    read = []

    def tokens():
        for token in byte_tokens(multilingual, "a♪b"):
            read.append(token)
            yield token

    yielded = [(text, len(read)) for text in multilingual.decode_stream(tokens())]
    assert yielded == [("a", 1), ("♪", 4), ("b", 5)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 255) | st.integers(0, 51864), max_size=30))
def test_the_decoded_stream_is_the_text_of_the_bytes(multilingual, tokens):
    for end in range(len(tokens) + 1):
        pieces = [*multilingual.decode_stream(tokens[:end])]
        plain = b"".join(multilingual.token_bytes(t) for t in tokens[:end] if t < multilingual.timestamp_begin)
        assert "".join(pieces) == plain.decode("utf-8", errors="replace")
        assert all(pieces)


# ------------------------------------------------------------------------------------------ real vocabularies


@pytest.fixture(scope="module", params=["tiny.en", "base"])
def real(request):
    """Return the folder of a real vocabulary, and its tokenizer."""
    folder, size = installed(request.param)
    return folder, Tokenizer.from_folder(folder, size)


@pytest.fixture(scope="module")
def base():
    return Tokenizer.from_folder(*installed("base"))


@pytest.fixture(scope="module")
def pair(real, tmp_path_factory):
    """Return a real vocabulary, and the same in the `tokenizers` library with the missing merge restored."""
    tokenizers = pytest.importorskip("tokenizers")
    folder, ours = real
    values = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    merges = values["model"]["merges"]
    if merges[0] not in ("Ġ t", ["Ġ", "t"]):
        assert ours.is_multilingual
        values["model"]["merges"] = ["Ġ t" if isinstance(merges[0], str) else ["Ġ", "t"], *merges]
    # Without this list, the library does not look for special tokens in a text, like this package.
    values |= {"added_tokens": [], "post_processor": None}
    repaired = tmp_path_factory.mktemp("repaired") / "tokenizer.json"
    repaired.write_text(json.dumps(values), encoding="utf-8")
    return ours, tokenizers.Tokenizer.from_file(str(repaired))


def test_the_example_of_the_documentation():
    t = Tokenizer.from_folder(*installed("tiny.en"))
    assert t.encode("It's ♪ 42") == [1026, 338, 20724, 103, 5433]
    assert [t.name(token) for token in t.encode("It's ♪ 42")] == ["It", "'s", r" \xe2\x99", r"\xaa", " 42"]
    assert len(t.encode("<|endoftext|>")) == 7


def test_the_missing_merge(base):
    """The merges of the multilingual file lack one; OpenAI's tokens include it."""
    assert base.encode(" the") == [264]
    assert [base.name(token) for token in (220, 3322)] == [" ", "the"]  # what these merges give


def test_a_page_without_spaces_is_encoded_quickly(base):
    page = "".join(map(chr, random.Random(1).choices(range(0x4E00, 0x9FFF), k=20_000)))
    began = time.process_time()
    assert base.decode(base.encode(page)) == page
    assert time.process_time() - began < 5


def test_every_piece_is_reached_by_merging(real):
    """Merging by id equals merging by the list of merges, otherwise some piece could not be reached."""
    _, t = real
    for token in range(0, t.eot, 7):
        piece = t._pieces[token]
        assert merge(piece, t._ids) == [piece]


def check_text(pair, text):
    ours, theirs = pair
    tokens = ours.encode(text)
    assert tokens == theirs.encode(text, add_special_tokens=False).ids
    assert ours.decode(tokens) == theirs.decode(tokens, skip_special_tokens=False) == text


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_texts(pair, text):
    check_text(pair, text)


@settings(deadline=None)
@given(text=TEXT)
def test_any_text(pair, text):
    check_text(pair, text)


def test_suppressed_tokens(real):
    folder, t = real
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert list(t.suppressed_tokens) == config["suppress_ids"]
    assert set(t.non_speech_tokens) < set(t.suppressed_tokens)
    assert [t.encode(" ")[0], t.eot] == config["suppress_ids_begin"]

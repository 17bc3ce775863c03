"""The tokenizer: special tokens, encoding and decoding, and two real vocabularies."""

import csv
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import DATA
from minwhisper.errors import LanguageError, TokenizerError
from minwhisper.tokenizer.bpe import bytes_to_unicode, merge
from minwhisper.tokenizer.tokenizer import Tokenizer
from vocabularies import IDS, PIECE_COUNTS, SIZES, TEXT, installed, made_up_pieces

# Greetings and small talk in many scripts, then unusual characters.
TEXTS = {
    "Latin": "Straße, naïve coöperation, Đặng, İstanbul, ǆ",
    "Greek": "Καλημέρα κόσμε, τι κάνεις;",
    "Cyrillic": "Привет, как дела? Ёлка і їжак.",
    "Armenian": "Բարեւ, ինչպե՞ս ես։",
    "Hebrew": "שָׁלוֹם עוֹלָם, מה נשמע?",
    "Arabic": "مرحباً بالعالم، كيف حالك؟ ٤٢",
    "Syriac": "ܫܠܡܐ ܥܠܡܐ",
    "Thaana": "އައްސަލާމް",
    "Devanagari": "नमस्ते दुनिया, आप कैसे हैं? ४२",
    "Bengali": "ওহে বিশ্ব, কেমন আছো? ৪২",
    "Gurmukhi": "ਸਤ ਸ੍ਰੀ ਅਕਾਲ",
    "Gujarati": "નમસ્તે દુનિયા",
    "Oriya": "ନମସ୍କାର ଦୁନିଆ",
    "Tamil": "வணக்கம் உலகம்",
    "Telugu": "నమస్కారం ప్రపంచం",
    "Kannada": "ನಮಸ್ಕಾರ ಜಗತ್ತು",
    "Malayalam": "നമസ്കാരം ലോകം",
    "Sinhala": "ආයුබෝවන් ලෝකය",
    "Thai": "สวัสดีชาวโลก ๔๒",
    "Lao": "ສະບາຍດີ",
    "Tibetan": "བཀྲ་ཤིས་བདེ་ལེགས། ༤༢",
    "Myanmar": "မင်္ဂလာပါ ကမ္ဘာ ၄၂",
    "Georgian": "გამარჯობა მსოფლიო",
    "Hangul": "안녕하세요, 세상아!",
    "Ethiopic": "ሰላም ዓለም፡ ፵፪",
    "Khmer": "សួស្តី ពិភពលោក",
    "Kana": "こんにちは、セカイ。ﾊﾟｿｺﾝ",
    "Han": "你好,世界。四十二㊷",
    "Cherokee": "ᎣᏏᏲ",
    "Gothic": "𐌷𐌰𐌹𐌻𐍃",
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
    "private and last": "\ue000 \U0010fffd \uffff",
}

# ------------------------------------------------------------------------------------------ special tokens


@pytest.fixture(scope="module", params=SIZES)
def made_up(request):
    return Tokenizer(made_up_pieces(PIECE_COUNTS[request.param]), request.param)


@pytest.fixture(scope="module")
def multilingual():
    return Tokenizer(made_up_pieces(50257), 51865)


@pytest.fixture(scope="module")
def english():
    return Tokenizer(made_up_pieces(50256), 51864)


@pytest.fixture(scope="module")
def large():
    return Tokenizer(made_up_pieces(50257), 51866)


def test_special_tokens_by_name(made_up):
    t = made_up
    named = (t.eot, t.sot, t.translate, t.transcribe, t.sot_lm, t.sot_prev, t.no_speech, t.no_timestamps)
    ids = IDS[t.vocab_size]
    assert (*named, t.timestamp_begin) == (*ids[:2], *ids[4:11])
    assert t.is_multilingual == (t.vocab_size > 51864)
    assert len(t.languages) == (100 if t.vocab_size == 51866 else 99)
    assert [t.language_token(code) for code in t.languages] == list(range(t.sot + 1, t.translate))
    assert {t.name(token): token for token in t.special_tokens.values()} == t.special_tokens


def test_timestamps(made_up):
    t = made_up
    assert t.timestamp_seconds(t.timestamp_begin) == 0.0
    assert t.timestamp_seconds(t.vocab_size - 1) == 30.0
    for token in range(t.timestamp_begin, t.vocab_size):
        assert t.name(token) == f"<|{t.timestamp_seconds(token):.2f}|>"
    for token in (t.no_timestamps, t.vocab_size, 0):
        with pytest.raises(TokenizerError, match=f"token {token} is not a timestamp"):
            t.timestamp_seconds(token)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *[("de", "de"), ("German", "de"), ("GERMAN", "de"), (" german ", "de"), ("EN", "en"), ("Mandarin", "zh")],
        *[("castilian", "es"), ("flemish", "nl"), ("haitian creole", "ht"), ("Haitian", "ht"), ("burmese", "my")],
    ],
)
def test_language_by_any_name(multilingual, name, code):
    assert multilingual.language_code(name) == code
    assert multilingual.name(multilingual.language_token(name)) == f"<|{code}|>"


def test_unknown_language(multilingual, large):
    with pytest.raises(LanguageError, match=r"'germn'.*did you mean .*'german'"):
        multilingual.language_token("germn")
    with pytest.raises(LanguageError, match=r"'12345'.*such as 'de' or 'german'; Tokenizer.languages"):
        multilingual.language_token("12345")
    with pytest.raises(LanguageError, match="''"):
        multilingual.language_code("")
    assert large.language_token("Cantonese") == 50358  # added with large-v3
    for name in ("yue", "cantonese"):
        with pytest.raises(LanguageError, match=rf"'{name}'.*no token for Cantonese \(yue\).*large-v3"):
            multilingual.language_token(name)


def test_sot_sequence(english, multilingual, large):
    assert multilingual.sot_sequence("de", "transcribe", True) == (50258, 50261, 50359)
    assert multilingual.sot_sequence("German", "translate", False) == (50258, 50261, 50358, 50363)
    assert large.sot_sequence("yue", "transcribe", False) == (50258, 50358, 50360, 50364)
    assert english.sot_sequence(None, "transcribe", True) == (50257,)
    assert english.sot_sequence("English", "transcribe", False) == (50257, 50362)


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


def test_names_of_special_tokens_in_a_text_are_text(made_up):
    for name in ("<|endoftext|>", "<|0.00|>", "<|en|>"):
        tokens = made_up.encode(name)
        assert max(tokens) < made_up.eot
        assert made_up.decode(tokens) == name


@pytest.mark.parametrize("text", ["\ud800", "so far \udfff so good", "\ude00\ud83d"])
def test_a_lone_surrogate(multilingual, text):
    with pytest.raises(TokenizerError, match=r"cannot encode '\\ud.*surrogate"):
        multilingual.encode(text)


def test_decoding_special_tokens(made_up):
    t = made_up
    tokens = [t.sot, t.timestamp_begin, *t.encode("so"), t.timestamp_begin + 54, t.eot]
    assert t.decode(tokens) == "<|startoftranscript|>so<|endoftext|>"
    assert t.decode_with_timestamps(tokens) == "<|startoftranscript|><|0.00|>so<|1.08|><|endoftext|>"


def byte_tokens(t, text):
    """Return one token per byte of the text."""
    return [t._ids[char] for char in bytes_to_unicode(text.encode())]


def test_incomplete_characters(multilingual):
    t = multilingual
    start, middle, end = byte_tokens(t, "♪")
    assert t.decode([start, middle, end]) == "♪"
    assert t.decode([start, middle]) == "\ufffd"
    assert [t.token_bytes(token) for token in (start, middle, end)] == [b"\xe2", b"\x99", b"\xaa"]
    assert t.name(start) == r"\xe2"
    # A timestamp is omitted from the text; the name of a special token is text, and splits the character.
    assert t.decode([start, middle, t.timestamp_begin, end]) == "♪"
    assert t.decode([start, middle, t.eot, end]) == "\ufffd<|endoftext|>\ufffd"


@pytest.mark.parametrize("token", [-1, 51865, 10**9])
def test_ids_outside_the_vocabulary(multilingual, token):
    for decode in (multilingual.decode, multilingual.decode_with_timestamps):
        with pytest.raises(TokenizerError, match=f"token {token}: expected an id from 0 to 51864"):
            decode([0, token])
    with pytest.raises(TokenizerError, match=f"token {token}"):
        multilingual.name(token)


def test_decode_stream_yields_each_character_when_it_is_complete(multilingual):
    yielded: list[str] = []
    before_next_token = []

    def tokens():
        for token in byte_tokens(multilingual, "a♪b"):
            yield token
            before_next_token.append("".join(yielded))

    for text in multilingual.decode_stream(tokens()):
        yielded.append(text)
    assert before_next_token == ["a", "a", "a", "a♪", "a♪b"]
    assert yielded == ["a", "♪", "b"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 255) | st.integers(0, 51864), max_size=30))
def test_decode_stream_equals_decode(multilingual, tokens):
    for end in range(len(tokens) + 1):
        pieces = [*multilingual.decode_stream(tokens[:end])]
        plain = b"".join(multilingual.token_bytes(t) for t in tokens[:end] if t < multilingual.timestamp_begin)
        assert "".join(pieces) == multilingual.decode(tokens[:end]) == plain.decode("utf-8", errors="replace")
        assert all(pieces)


@settings(deadline=None)
@given(TEXT.filter(lambda text: "\ufffd" not in text))
def test_decode_stream_yields_whole_characters(multilingual, text):
    assert [*multilingual.decode_stream(byte_tokens(multilingual, text))] == [*text]


# ------------------------------------------------------------------------------------------ real vocabularies


@pytest.fixture(scope="module", params=["tiny.en", "base"])
def real(request):
    return Tokenizer.from_folder(*installed(request.param))


@pytest.fixture(scope="module")
def base():
    return Tokenizer.from_folder(*installed("base"))


@pytest.fixture(scope="module")
def pair(request, real, tmp_path_factory):
    """Return a real vocabulary, and the same in the `tokenizers` library with the missing merge restored."""
    tokenizers = pytest.importorskip("tokenizers")
    folder, _ = installed("base" if real.is_multilingual else "tiny.en")
    values = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    merges = values["model"]["merges"]
    if merges[0] not in ("Ġ t", ["Ġ", "t"]):
        assert real.is_multilingual
        values["model"]["merges"] = ["Ġ t" if isinstance(merges[0], str) else ["Ġ", "t"], *merges]
    # Without this list, the library does not look for special tokens in a text, like this package.
    values |= {"added_tokens": [], "post_processor": None}
    repaired = tmp_path_factory.mktemp("repaired") / "tokenizer.json"
    repaired.write_text(json.dumps(values), encoding="utf-8")
    return real, tokenizers.Tokenizer.from_file(str(repaired))


def test_the_example_of_the_documentation():
    t = Tokenizer.from_folder(*installed("tiny.en"))
    assert t.encode("It's ♪ 42") == [1026, 338, 20724, 103, 5433]
    assert [t.name(token) for token in t.encode("It's ♪ 42")] == ["It", "'s", r" \xe2\x99", r"\xaa", " 42"]
    assert len(t.encode("<|endoftext|>")) == 7


def test_the_missing_merge(base):
    """The merges of the multilingual file lack one; OpenAI's tokens include it."""
    tokenizers = pytest.importorskip("tokenizers")
    incomplete = tokenizers.Tokenizer.from_file(str(installed("base")[0] / "tokenizer.json"))
    assert incomplete.encode(" the", add_special_tokens=False).ids == [220, 3322]
    assert base.encode(" the") == [264]
    assert [base.name(token) for token in (220, 3322, 264)] == [" ", "the", " the"]


def test_every_piece_is_reached_by_merging(real):
    """Merging by id equals merging by the list of merges, otherwise some piece could not be reached."""
    for token in range(0, real.eot, 7):
        piece = real._pieces[token]
        assert merge(piece, real._ids) == [piece]


def check_text(pair, text):
    ours, theirs = pair
    tokens = ours.encode(text)
    assert tokens == theirs.encode(text, add_special_tokens=False).ids
    assert ours.decode(tokens) == theirs.decode(tokens, skip_special_tokens=False) == text


def test_sentences_of_a_book(pair):
    with (DATA / "lj_texts.csv").open(encoding="utf-8", newline="") as file:
        texts = [row[1] for row in csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE)]
    assert len(texts) == 8
    for text in texts:
        check_text(pair, text)
        check_text(pair, " " + text)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_texts(pair, text):
    check_text(pair, text)


@settings(deadline=None)
@given(text=TEXT)
def test_any_text(pair, text):
    check_text(pair, text)


@settings(deadline=None)
@given(data=st.data())
def test_any_tokens(pair, data):
    ours, theirs = pair
    tokens = data.draw(st.lists(st.integers(0, 187) | st.integers(0, ours.eot - 1), max_size=30))
    assert ours.decode(tokens) == theirs.decode(tokens, skip_special_tokens=False)


def test_suppressed_tokens(real):
    folder, _ = installed("base" if real.is_multilingual else "tiny.en")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert list(real.suppressed_tokens) == config["suppress_ids"]
    assert set(real.non_speech_tokens) < set(real.suppressed_tokens)
    assert real.no_timestamps not in real.suppressed_tokens
    assert [real.encode(" ")[0], real.eot] == config["suppress_ids_begin"]


def test_large_v3_has_the_same_pieces(base):
    """All multilingual models share their text pieces, so large-v3 needs no file of its own here."""
    t = Tokenizer(base._ids, 51866)
    ids = (t.special_tokens["<|yue|>"], t.translate, t.transcribe, t.no_timestamps, t.timestamp_begin)
    assert ids == (50358, 50359, 50360, 50364, 50365)
    assert t.encode(" the") == [264]
    assert t.non_speech_tokens == base.non_speech_tokens
    # Its special tokens differ, so the file of base is rejected for its size.
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: <\|translate\|> is token 50358.*has it at 50359"):
        Tokenizer.from_folder(installed("base")[0], 51866)

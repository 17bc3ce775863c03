"""Made-up transcripts, for tests of the code that uses transcripts."""

from minwhisper.transcription.segments import Segment, Transcript, Word

HOSTILE = "</script><script>alert(1)</script><!-- \"'& \u202e \x07 --> 国"  # a word that tries to be markup


def word(text: str, start: float, end: float, probability: float = 0.5) -> Word:
    return {"word": text, "start": start, "end": end, "probability": probability}


def segment(text: str, start: float, end: float, words: list[Word] | None = None, seek: int = 0) -> Segment:
    numbers = {"temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": 1.5, "no_speech_prob": 0.01}
    made = {"id": 0, "seek": seek, "start": start, "end": end, "text": text, "tokens": [50364, 440], **numbers}
    return made if words is None else made | {"words": words}


def spoken(*words: Word) -> Segment:
    """Return a segment of these words."""
    return segment("".join(each["word"] for each in words), words[0]["start"], words[-1]["end"], list(words))


def transcript(*segments: Segment) -> Transcript:
    """Return a transcript of these segments, numbered in order."""
    numbered = [part | {"id": number} for number, part in enumerate(segments)]
    return {"text": "".join(each["text"] for each in segments), "segments": numbered, "language": "en"}

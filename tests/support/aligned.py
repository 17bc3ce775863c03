"""Where the words of a text are in a window, by a whole model."""

from minwhisper.transcription.alignment import find_alignment


def aligned(model, mel, frames, text, language="en"):
    """The words of a text, given as tokens, in a window's mel (M, 3000) of which ``frames`` are sound."""
    return find_alignment(
        text,
        model.encode(mel[None]),
        frames,
        prompt=model.tokenizer.sot_sequence(language, "transcribe", timestamps=True),
        heads=model.alignment_heads,
        weights=model.weights["decoder"],
        config=model.config,
        tokenizer=model.tokenizer,
        language=language,
    )

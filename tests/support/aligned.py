"""Word alignment of a text with a window, by a whole model."""

from minwhisper.transcription.alignment import find_alignment


def aligned(model, mel, frames, text, language="en"):
    """Align the tokens of a text with a window's mel (M, 3000), whose first ``frames`` frames hold audio."""
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

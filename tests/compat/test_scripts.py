"""Programs like those that people have written for openai-whisper, run on ``compat``.

Each takes the module ``whisper``, a model, a function that makes a tensor, and a folder to write to. A
parity test also runs it with openai-whisper.
"""

import json
import os
from unittest.mock import patch

import numpy as np
import pytest

import minwhisper.compat
from audio_files import FFMPEG
from inputs import DATA
from minwhisper.compat.model import Whisper
from minwhisper.transcription import transcribe as chapter
from scripted import MULTILINGUAL, ONE, NumberedSpectrogram, Scripted
from vocabularies import made_up_tokenizer

JFK = str(DATA / "jfk.flac")
BOOK = str(DATA / "LJ001-0002.wav")  # two seconds


def transcribe_file(whisper, model, tensor, folder):
    result = model.transcribe(JFK, fp16=False, verbose=None)
    return result["text"], result["language"], [segment["tokens"] for segment in result["segments"]]


def transcribe_with_beam_search_and_fallback(whisper, model, tensor, folder):
    samples = whisper.load_audio(BOOK)
    options = {"beam_size": 2, "best_of": 3, "patience": 1.0, "temperature": [0.0, 0.2], "language": "English"}
    return whisper.transcribe(model, samples, fp16=False, condition_on_previous_text=False, **options)["text"]


def transcribe_with_options_that_have_no_effect(whisper, model, tensor, folder):
    unused = {"best_of": 5, "hallucination_silence_threshold": 2.0, "carry_initial_prompt": True, "prompt": "Unused."}
    return model.transcribe(BOOK, language="en", temperature=0, fp16=False, **unused)["text"]


def decode_window(whisper, model, tensor, folder):
    model = model.to("cpu").eval()
    audio = whisper.pad_or_trim(whisper.load_audio(JFK))
    mel = whisper.log_mel_spectrogram(audio, n_mels=model.dims.n_mels).to(model.device)
    options = whisper.DecodingOptions(language="en", fp16=False)
    result = whisper.decode(model, mel, options, without_timestamps=True)
    return result.text, result.tokens, result.language, tuple(result.audio_features.shape)


def detect_language(whisper, model, tensor, folder):
    mel = whisper.log_mel_spectrogram(JFK, padding=whisper.audio.N_SAMPLES)
    mel = whisper.pad_or_trim(mel, whisper.audio.N_FRAMES).to(model.device)
    if not model.is_multilingual:
        with pytest.raises(ValueError, match="lang"):
            model.detect_language(mel)
        return None
    token, probabilities = model.detect_language(mel)
    tokens, rows = whisper.detect_language(model, model.embed_audio(mel.unsqueeze(0)))
    assert tokens.tolist() == [token.item()]
    assert max(rows[0], key=rows[0].get) == max(probabilities, key=probabilities.get)
    return token.item(), sorted(probabilities, key=probabilities.get)[-3:], sorted(probabilities)


def write_subtitles(whisper, model, tensor, folder):
    result = model.transcribe(BOOK, language="en", word_timestamps=True, fp16=False)
    for name in ("txt", "srt", "all"):
        options = {"max_line_width": 20, "max_line_count": 2, "highlight_words": False, "max_words_per_line": None}
        whisper.utils.get_writer(name, str(folder))(result, BOOK, options)
    whisper.utils.get_writer("vtt", str(folder))(result, "marked.mp3", highlight_words=True)
    with open(folder / "open.tsv", "w", encoding="utf-8") as file:
        whisper.utils.WriteTSV(str(folder)).write_result(result, file)
    contents = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
    data = json.loads(contents.pop("LJ001-0002.json"))
    return contents, data["text"]


def decode_batch(whisper, model, tensor, folder):
    audios = [whisper.pad_or_trim(whisper.load_audio(path).flatten()) for path in (JFK, BOOK)]
    mels = tensor(np.stack([whisper.log_mel_spectrogram(audio).numpy() for audio in audios])).to(model.device)
    results = model.decode(mels, whisper.DecodingOptions(language="en", without_timestamps=True, fp16=False))
    return [result.text for result in results]


def decode_token_by_token(whisper, model, tensor, folder):
    tokenizer = whisper.tokenizer.get_tokenizer(model.is_multilingual, num_languages=model.num_languages, language="en")
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(whisper.load_audio(JFK)))
    features = model.encoder(mel.unsqueeze(0))
    tokens = list(tokenizer.sot_sequence_including_notimestamps)
    for _ in range(4):
        logits = model.decoder(tensor(np.array([tokens])), features)
        tokens.append(logits[0, -1].argmax().item())
    both = model(mel[None], tensor(np.array([tokens])))
    return tokenizer.decode(tokens[-4:]), both.shape[:2] == (1, len(tokens)), both[0, -2].argmax().item() == tokens[-1]


def align_known_text(whisper, model, tensor, folder):
    tokenizer = whisper.tokenizer.get_tokenizer(model.is_multilingual, language="en", task="transcribe")
    samples = whisper.load_audio(JFK)
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(samples))
    text = tokenizer.encode(" And so, my fellow Americans, ask not what your country can do for you.")
    frames = len(samples) // whisper.audio.HOP_LENGTH
    alignment = whisper.timing.find_alignment(model, tokenizer, text, mel, frames)
    whisper.timing.merge_punctuations(alignment, "\"'", ".,")
    words = [(each.word, round(float(each.start), 2), list(each.tokens)) for each in alignment if each.word]
    segments = [{"seek": 0, "start": 0.0, "end": 8.0, "tokens": text}]
    whisper.timing.add_word_timestamps(
        segments=segments, model=model, tokenizer=tokenizer, mel=mel, num_frames=frames, last_speech_timestamp=0.0
    )
    return words, segments[0]["start"], segments[0]["end"], [word["word"] for word in segments[0]["words"]]


SCRIPTS = [
    transcribe_file,
    transcribe_with_beam_search_and_fallback,
    transcribe_with_options_that_have_no_effect,
    decode_window,
    decode_batch,
    detect_language,
    write_subtitles,
    decode_token_by_token,
    align_known_text,
]


def run(script, model, folder, tensor=None):
    """Run a script on a model through compat."""
    return script(minwhisper.compat, Whisper(model), tensor, folder)


def test_transcribing_and_decoding_give_the_same_as_the_native_model_and_print_nothing(tiny_en, tmp_path, capsys):
    native = tiny_en.transcribe(JFK)
    tokens = [segment["tokens"] for segment in native["segments"]]
    assert run(transcribe_file, tiny_en, tmp_path) == (native["text"], "en", tokens)
    mel = minwhisper.log_mel_spectrogram(minwhisper.pad_or_trim(minwhisper.load_audio(JFK)))
    window = tiny_en.decode(mel, language="en", without_timestamps=True)
    assert run(decode_window, tiny_en, tmp_path) == (window.text, window.tokens, "en", (1500, 384))
    assert capsys.readouterr() == ("", "")


RUNS = [*(("tiny.en", script) for script in SCRIPTS), ("base", detect_language)]


@pytest.mark.parity
@pytest.mark.parametrize(("model", "script"), RUNS, indirect=["model"])
def test_openai_whisper_gives_the_same(script, model, pytorch, tmp_path_factory, monkeypatch):
    torch = pytest.importorskip("torch")
    whisper = pytest.importorskip("whisper")
    if FFMPEG is not None:  # openai-whisper runs the command of this name
        commands = tmp_path_factory.mktemp("commands")
        (commands / "ffmpeg").symlink_to(FFMPEG)
        monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)
    theirs = script(whisper, pytorch(model), torch.tensor, tmp_path_factory.mktemp("theirs"))
    assert run(script, model, tmp_path_factory.mktemp("ours"), torch.tensor) == theirs


DETECTING = "Detecting language using up to the first 30 seconds. Use `--language` to specify the language\n"
LANGUAGE = "Detected language: English\n"
SEGMENTS = "[00:00.000 --> 00:05.000]  one\n[00:05.000 --> 00:29.000]  two\n"


@pytest.mark.parametrize(
    ("verbose", "printed"), [(None, ""), (False, LANGUAGE), (True, DETECTING + LANGUAGE + SEGMENTS)]
)
def test_verbose_prints_the_language_and_segments_or_a_bar(verbose, printed, capsys):
    model = Scripted([ONE], made_up_tokenizer(MULTILINGUAL), [{"en": 0.9}])
    with patch.object(chapter, "Spectrogram", NumberedSpectrogram):
        minwhisper.compat.transcribe(model, np.zeros(480_000, np.float32), verbose=verbose, temperature=0.0)
    out, err = capsys.readouterr()
    assert out == printed
    assert ("3000/3000" in err) is (verbose is False)

"""``load_model`` and ``Whisper``: loading, untrained models, every method, and errors."""

import copy
import dataclasses
import pickle
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack, get_type_hints

import numpy as np
import pytest

import minwhisper
from hf_checkpoint import SMALL, distinct_weights, hugging_face, write
from inputs import DATA
from minwhisper import DecodingOptions, TranscriptionOptions, Whisper, errors, load_model
from minwhisper.checkpoints.sources import packaged_model
from minwhisper.checkpoints.tensor_matching import LoadReport
from minwhisper.decoding.decode import DecodingResult
from minwhisper.decoding.keywords import DecodingKeywords, TranscriptionKeywords
from minwhisper.model.config import PUBLISHED
from minwhisper.model.weight_names import flatten
from minwhisper.model.weights import count_parameters

ROOT = Path(minwhisper.__file__).parents[1]

# One block in encoder and decoder; the multilingual vocabulary, so that the tokenizer of base fits.
ONE_BLOCK = dataclasses.replace(SMALL, vocab_size=51865, decoder_layers=1, max_source_positions=1500)


def write_model(folder: Path, *, without: str = "", **changes: int) -> Path:
    """Write a checkpoint of ``ONE_BLOCK``, possibly changed or without a tensor, with the tokenizer of base."""
    files = packaged_model("base")
    if files is None:
        pytest.skip("the package with the tokenizer of base is not installed")
    config = dataclasses.replace(ONE_BLOCK, **changes)
    tensors = hugging_face(distinct_weights(config))
    tensors.pop(without, None)
    shutil.copy(files.folder / "tokenizer.json", folder)
    return write(folder, tensors, "float16", **dataclasses.asdict(config))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a complete checkpoint of ``ONE_BLOCK`` in Hugging Face's layout."""
    folder = write_model(tmp_path_factory.mktemp("model"))
    (folder / "generation_config.json").write_text('{"alignment_heads": [[0, 1]]}')
    return folder


@pytest.fixture(scope="module")
def small() -> Whisper:
    """Return a small untrained model."""
    return Whisper.random(SMALL)


# --- Loading ---------------------------------------------------------------------------------------------------------


def test_a_model_is_loaded_by_its_short_name(model: Whisper) -> None:
    assert model.config == PUBLISHED[model.name]
    assert model.is_multilingual == (model.name == "base")
    assert model.tokenizer.vocab_size == model.config.vocab_size
    assert model.tokenizer.is_multilingual == model.is_multilingual
    assert len(model.alignment_heads) == 8
    assert (model.device, model.dtype, model.compute_dtype) == ("cpu", "float32", "float32")
    assert model.report == LoadReport((), ())
    millions = {"tiny.en": "37.8", "base": "72.6"}[model.name]
    assert repr(model) == f"<Whisper {model.name}: {millions} million parameters in float32 on cpu>"


def test_a_model_is_loaded_from_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    for name in (folder, str(folder), f"./{folder.name}", folder.name):
        model = load_model(name)
        assert (model.name, model.config, model.alignment_heads) == (str(name), ONE_BLOCK, ((0, 1),))
        assert model.tokenizer.encode(" and so") == [293, 370]


def test_a_model_with_shorter_windows_gives_a_warning_and_refuses_to_transcribe(tmp_path: Path) -> None:
    write_model(tmp_path, max_source_positions=750)
    with pytest.warns(UserWarning, match="750 positions, 15 s .* take up to 1500 frames, transcribe is not available"):
        model = load_model(tmp_path)
    assert model.encode(np.zeros((1, 5, 1500), np.float32)).shape == (1, 750, 8)
    with pytest.raises(errors.ConfigError, match="750 positions"):
        model.transcribe(np.zeros(16000, np.float32))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_loaded_or_untrained_model_stores_each_dtype_and_computes_in_float32_or_float64(
    folder: Path, dtype: str
) -> None:
    for model in (load_model(folder, dtype=dtype), Whisper.random(ONE_BLOCK, dtype=dtype)):
        assert {array.dtype for _, array in flatten(model.weights)} == {np.dtype(dtype)}
        assert model.dtype == dtype
        assert model.compute_dtype == ("float64" if dtype == "float64" else "float32")
        mel = np.random.default_rng(0).standard_normal((1, 5, 20)).astype(np.float16)
        features = model.encode(mel)
        assert features.dtype == model.logits([[1, 2]], features).dtype == model.compute_dtype
        for other in (np.float32, np.float64):
            np.testing.assert_array_equal(model.encode(mel.astype(other)), features)


@pytest.mark.parametrize(
    ("name", "hints"),
    [
        ("tiny.eng", ["unknown model 'tiny.eng'", "did you mean 'tiny.en'"]),
        ("larg-v3", ["did you mean 'large-v3'"]),
        ("zzz", ["known models: tiny.en, tiny, base.en"]),
        ("./nowhere", ["folder './nowhere' does not exist"]),
    ],
)
def test_an_unknown_name_gets_suggestions(name: str, hints: list[str]) -> None:
    with pytest.raises(errors.ModelNotFoundError) as caught:
        load_model(name)
    assert all(hint in str(caught.value) for hint in hints)
    assert "\n" not in str(caught.value)


def test_invalid_arguments_are_refused_before_the_model_is_looked_for() -> None:
    with pytest.raises(errors.OptionError, match="dtype 'int8': expected one of float16, float32, float64"):
        load_model("./nowhere", dtype="int8")
    with pytest.raises(errors.DeviceError, match="unknown device 'gpu'"):
        load_model("./nowhere", device="gpu")
    with pytest.raises(errors.OptionError, match="shared: expected a folder or None, got True"):
        load_model("./nowhere", shared=True)  # type: ignore[arg-type]
    with pytest.raises(errors.ModelNotFoundError, match=r"unknown model 'huge': expected one of tiny\.en, tiny, "):
        Whisper.random("huge")


def test_shared_weights_are_the_same_and_have_no_effect_on_a_gpu(folder: Path, tmp_path: Path, gpus: Any) -> None:
    load_model(folder, "cuda", shared=tmp_path)
    assert not list(tmp_path.iterdir())
    mel = np.random.default_rng(0).standard_normal((1, 5, 20)).astype(np.float32)
    alone, *shared = load_model(folder), load_model(folder, shared=tmp_path), load_model(folder, shared=tmp_path)
    assert list(tmp_path.iterdir())
    features = alone.encode(mel)
    for model in shared:
        np.testing.assert_array_equal(model.encode(mel), features)
        np.testing.assert_array_equal(model.logits([[1, 2]], features), alone.logits([[1, 2]], features))


def test_a_missing_tokenizer_or_that_of_another_model_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, vocab_size=51864)
    with pytest.raises(errors.TokenizerError, match="is this another model's tokenizer"):
        load_model(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(errors.TokenizerError, match=r"expected tokenizer\.json, or vocab\.json and merges\.txt"):
        load_model(tmp_path)


def test_an_incomplete_checkpoint_is_refused_unless_strict_is_false(tmp_path: Path) -> None:
    write_model(tmp_path, without="model.decoder.layer_norm.bias")
    missing = r"missing tensors \(1\): decoder\.norm\.bias"
    with pytest.raises(errors.WeightsError, match=missing):
        load_model(tmp_path)
    with pytest.warns(UserWarning, match=f"{missing}; missing tensors are filled with zeros") as caught:
        model = load_model(tmp_path, strict=False)
    assert caught[0].filename == __file__  # the caller's line, not one of ours
    assert model.report == LoadReport(("decoder.norm.bias",), ())
    assert not model.weights["decoder"]["norm"]["bias"].any()


# --- Untrained models ------------------------------------------------------------------------------------------------


def test_an_untrained_model_of_a_published_size() -> None:
    model = Whisper.random("tiny", dtype="float16")
    assert model.config == PUBLISHED["tiny"]
    assert count_parameters(model.weights) == 37_760_640
    assert count_parameters(model.weights["decoder"]) == 37_760_640 - 8_208_384
    assert repr(model) == "<Whisper untrained: 37.8 million parameters in float16 on cpu>"
    features = model.encode(np.zeros((1, 80, 200), np.float32))
    assert features.shape == (1, 100, 384)
    assert features.dtype == np.float32


def test_an_untrained_model_has_no_tokenizer() -> None:
    model = Whisper.random(dataclasses.replace(SMALL, vocab_size=51865))
    mel = np.zeros((5, 6), np.float32)
    for ask in (lambda: model.tokenizer.encode("a"), lambda: model.detect_language(mel), lambda: model.decode(mel)):
        with pytest.raises(errors.TokenizerError, match="an untrained model has no tokenizer: load one with"):
            ask()


def test_a_model_is_hashable_equal_to_itself_only_and_frozen(small: Whisper) -> None:
    other = Whisper.random(SMALL)
    assert small == small
    assert small != other
    assert len({small, other, small}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        small.dtype = "float64"  # type: ignore[misc]


# --- encode and logits -----------------------------------------------------------------------------------------------


def test_a_batch_gives_the_same_as_its_rows(small: Whisper, rng: np.random.Generator) -> None:
    mel = rng.standard_normal((3, 5, 10)).astype(np.float32)
    tokens = rng.integers(0, 60, (3, 4))
    features = small.encode(mel)
    logits = small.logits(tokens, features)
    assert (features.shape, logits.shape) == ((3, 5, 8), (3, 4, 60))
    assert small.encode(mel[:, :, :9]).shape == (3, 5, 8)  # two frames become one position
    np.testing.assert_allclose(small.logits(tokens[:, :2].astype(np.uint8), features), logits[:, :2], atol=1e-6)
    for row in range(3):
        np.testing.assert_allclose(features[row : row + 1], small.encode(mel[row : row + 1]), atol=1e-5)
        np.testing.assert_allclose(
            logits[row : row + 1], small.logits(tokens[row : row + 1], features[row : row + 1]), atol=1e-5
        )


@pytest.mark.parametrize("shape", [(5, 10), (1, 10, 5), (1, 5, 25), (1, 5, 0)])
def test_a_mel_of_another_shape_is_refused(small: Whisper, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"mel: expected \(batch, 5, 1 to 24 frames\), got \(") as caught:
        small.encode(np.zeros(shape, np.float32))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[60]], "expected ids from 0 to 59"),
        ([[5, -1]], "expected ids from 0 to 59"),
        ([1, 2], r"whole numbers of shape \(1, 1 or more positions\), got int64 \(2,\)"),
        ([[1], [2]], r"whole numbers of shape \(1, 1 or more positions\), got int64 \(2, 1\)"),
        ([[True]], "whole numbers of shape .*, got bool"),
        ([[1, 2], [3]], "rows of different lengths"),
        ([[]], r"1 or more positions\), got float64 \(1, 0\)"),
        ([[0] * 8], "at most 7 positions"),
    ],
)
def test_invalid_tokens_are_refused(small: Whisper, tokens: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small.logits(tokens, np.zeros((1, 4, 8), np.float32))


@pytest.mark.parametrize("shape", [(4, 8), (1, 4, 7)])
def test_features_of_another_shape_are_refused(small: Whisper, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"features: expected \(batch, positions, 8\), got \("):
        small.logits([[1]], np.zeros(shape, np.float32))


# --- Languages -------------------------------------------------------------------------------------------------------


def mel_of(name: str) -> np.ndarray:
    return minwhisper.log_mel_spectrogram(minwhisper.pad_or_trim(minwhisper.load_audio(DATA / name)))


def test_french_is_detected_in_a_mel_and_in_its_features(base: Whisper) -> None:
    mel = mel_of("french.aiff")
    features = base.encode(mel[None])
    token, row = base.detect_language(features[0])
    assert token == base.tokenizer.language_token("fr")
    assert tuple(row) == base.tokenizer.languages
    assert len(row) == 99
    assert all(type(probability) is float and probability >= 0 for probability in row.values())
    assert sum(row.values()) == pytest.approx(1, abs=1e-5)
    assert max(row, key=row.__getitem__) == "fr"
    assert row["fr"] > 0.5
    result = base.decode(features[0], sample_len=1)
    assert (result.language, result.language_probs) == ("fr", row)
    windows = np.stack([mel, mel_of("jfk.flac")])[:, :, :400]
    tokens, rows = base.detect_language(windows)
    assert tokens == [token, base.tokenizer.language_token("en")]
    assert base.detect_language(windows[1]) == (tokens[1], pytest.approx(rows[1], abs=1e-5))


# --- decode -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spoken(tiny_en: Whisper) -> tuple[np.ndarray, np.ndarray]:
    """Return the mels of two windows, (2, 80, 3000), and tiny.en's features of them, (2, 1500, 384)."""
    mels = np.stack([mel_of("jfk.flac"), mel_of("LJ001-0002.wav")])
    return mels, tiny_en.encode(mels)


def test_a_batch_of_windows_gives_the_same_as_one_by_one(tiny_en: Whisper, spoken: Any) -> None:
    """Windows may be mels or features; options may be an object, keywords, or both."""
    mels, features = spoken
    options = DecodingOptions(without_timestamps=True, sample_len=20)
    both = tiny_en.decode(features, options, sample_len=5)
    assert [result.text for result in both] == ["And so my fellow Americans", "in being comparatively modern."]
    assert (type(both), options.sample_len) == (list, 20)
    for window, expected in zip(features, both, strict=True):
        alone = tiny_en.decode(window, without_timestamps=True, sample_len=5)
        assert isinstance(alone, DecodingResult)
        assert (alone.tokens, alone.text) == (expected.tokens, expected.text)
        assert alone.avg_logprob == pytest.approx(expected.avg_logprob, abs=1e-5)  # rounding differs in a batch
        assert alone.no_speech_prob == pytest.approx(expected.no_speech_prob, rel=1e-4)
        np.testing.assert_array_equal(alone.audio_features, window)
    assert tiny_en.decode(mels[1], options, sample_len=5).tokens == both[1].tokens
    assert [only.tokens for only in tiny_en.decode(features[1:], options, sample_len=5)] == [both[1].tokens]


def test_keyword_types_are_those_of_the_options() -> None:
    window, types = get_type_hints(DecodingOptions), get_type_hints(TranscriptionOptions)
    whole = {
        field.name: types[field.name]
        for field in dataclasses.fields(TranscriptionOptions)
        if field.default is not dataclasses.MISSING
    }
    temperature = {"temperature": float | Sequence[float]}
    assert get_type_hints(DecodingKeywords) == window
    del window["prompt"]
    assert get_type_hints(TranscriptionKeywords) == window | whole | temperature
    for method in (Whisper.transcribe, Whisper.stream, Whisper.transcribe_many, Whisper.stream_many):
        assert get_type_hints(method)["options"] == Unpack[TranscriptionKeywords]


def test_windows_are_sampled_in_order_from_one_generator(tiny_en: Whisper, spoken: Any) -> None:
    options = DecodingOptions(temperature=5.0, sample_len=4)
    twice = np.stack([spoken[1][1]] * 2)
    first, second = tiny_en.decode(twice, options, generator=np.random.default_rng(3))
    assert first.tokens != second.tokens
    one = np.random.default_rng(3)
    assert [tiny_en.decode(window, options, generator=one) for window in twice] == [first, second]
    assert tiny_en.decode(twice, options) == tiny_en.decode(twice, options, generator=np.random.default_rng(0))


@pytest.mark.parametrize("shape", [(3000, 80), (80, 3001), (1500, 511), (1, 1, 80, 3000)])
def test_a_window_of_another_shape_is_refused(base: Whisper, shape: tuple[int, ...]) -> None:
    for method in (base.decode, base.detect_language):
        with pytest.raises(ValueError, match="mel: expected"):
            method(np.zeros(shape, np.float32))


def test_an_english_model_cannot_detect_languages(tiny_en: Whisper) -> None:
    message = r"tiny\.en is English only and cannot detect languages: use one such as 'base'"
    with pytest.raises(errors.LanguageError, match=message):
        tiny_en.detect_language(np.zeros((80, 3000), np.float32))


# --- Imports and copies ---------------------------------------------------------------------------------


IMPORTS_CHILD = """
import sys
before = set(sys.modules)
import minwhisper
if sys.argv[1:]:
    minwhisper.load_model(*sys.argv[1:])
print(*{name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)
"""


def test_importing_and_loading_import_only_numpy_and_threadpoolctl() -> None:
    # PyAV, safetensors, huggingface_hub, tqdm and CuPy are imported only when they are needed.
    installed = ["tiny.en"] if packaged_model("tiny.en") else []
    brought = subprocess.check_output([sys.executable, "-c", IMPORTS_CHILD, *installed], cwd=ROOT, text=True)
    kept = {name for name in brought.split() if "cython" not in name}  # Cython's runtime comes with numpy.random
    assert kept == {"minwhisper", "numpy", "threadpoolctl"}


@pytest.mark.parametrize("plain", [False, True])
def test_a_copy_computes_the_same(small: Whisper, rng: np.random.Generator, plain: bool) -> None:
    original = dataclasses.replace(small, plain=plain)
    mel = rng.standard_normal((1, SMALL.num_mel_bins, 8), np.float32)
    expected = original.encode(mel)
    for other in (pickle.loads(pickle.dumps(original)), copy.deepcopy(original)):
        assert other.config == original.config
        assert other.engine is not original.engine
        np.testing.assert_array_equal(other.encode(mel), expected)

"""``load_model`` and ``Whisper``: loading, untrained models, every method, and errors."""

import copy
import dataclasses
import json
import os
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
from conftest import DATA
from hf_checkpoint import SMALL, distinct_weights, hugging_face, write
from hub_server import HubServer, Repository
from minwhisper import DecodingOptions, TranscriptionOptions, Whisper, load_model
from minwhisper.checkpoints.sources import packaged_model
from minwhisper.checkpoints.tensor_matching import LoadReport
from minwhisper.decoding.decode import DecodingResult
from minwhisper.decoding.keywords import DecodingKeywords, TranscriptionKeywords
from minwhisper.errors import (
    ConfigError,
    DeviceError,
    LanguageError,
    ModelNotFoundError,
    OptionError,
    TokenizerError,
    WeightsError,
)
from minwhisper.model.config import PUBLISHED
from minwhisper.model.weight_names import flatten
from minwhisper.model.weights import count_parameters

ROOT = Path(minwhisper.__file__).parents[1]

# One block in encoder and decoder, with the multilingual vocabulary, so that it can use the tokenizer of base.
ONE_BLOCK = dataclasses.replace(SMALL, vocab_size=51865, decoder_layers=1, max_source_positions=1500)


def write_model(folder: Path, *, without: str = "", **changes: int) -> Path:
    """Write a checkpoint of ``ONE_BLOCK`` with other dimensions or without a tensor, and with the tokenizer of base."""
    files = packaged_model("base")
    if files is None:
        pytest.skip("it needs the tokenizer of base, whose package is not installed")
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


def run_python(code: str, *arguments: str, **environment: str) -> str:
    """Return what a new process prints."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(("HF_", "HTTP"))}
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=kept | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


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
        assert model.name == str(name)
        assert model.config == ONE_BLOCK
        assert model.alignment_heads == ((0, 1),)
        assert model.tokenizer.encode(" and so") == [293, 370]


def test_a_model_with_shorter_windows_gives_a_warning_and_refuses_to_transcribe(tmp_path: Path) -> None:
    write_model(tmp_path, max_source_positions=750)
    with pytest.warns(UserWarning, match="750 positions, 15 s .* take up to 1500 frames, transcribe is not available"):
        model = load_model(tmp_path)
    assert model.encode(np.zeros((1, 5, 1500), np.float32)).shape == (1, 750, 8)
    with pytest.raises(ConfigError, match="750 positions"):
        model.transcribe(np.zeros(16000, np.float32))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_loaded_or_untrained_model_stores_each_dtype_and_computes_in_float32_or_float64(
    folder: Path, dtype: str
) -> None:
    for model in (load_model(folder, dtype=dtype), Whisper.random(ONE_BLOCK, dtype=dtype)):
        assert {array.dtype for _, array in flatten(model.weights)} == {np.dtype(dtype)}
        assert model.dtype == dtype
        assert model.compute_dtype == ("float64" if dtype == "float64" else "float32")
        features = model.encode(np.zeros((1, 5, 20), np.float32))
        assert features.dtype == model.logits([[1, 2]], features).dtype == model.compute_dtype


def test_float16_computes_what_float32_does(folder: Path, rng: np.random.Generator) -> None:
    # The file stores float16, and the arithmetic is float32 for both.
    mel = rng.standard_normal((1, 5, 20)).astype(np.float32)
    half, single = (load_model(folder, dtype=dtype, plain=True).encode(mel) for dtype in ("float16", "float32"))
    np.testing.assert_array_equal(half, single)


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
    with pytest.raises(ModelNotFoundError) as caught:
        load_model(name)
    assert all(hint in str(caught.value) for hint in hints)
    assert "\n" not in str(caught.value)


def test_invalid_arguments_are_refused_before_the_model_is_looked_for() -> None:
    with pytest.raises(OptionError, match="dtype 'int8': expected one of float16, float32, float64"):
        load_model("./nowhere", dtype="int8")
    with pytest.raises(DeviceError, match="unknown device 'gpu'"):
        load_model("./nowhere", device="gpu")
    with pytest.raises(OptionError, match="shared: expected a folder or None, got True"):
        load_model("./nowhere", shared=True)  # type: ignore[arg-type]


def test_a_model_with_shared_weights_gives_the_same_transcript(tiny_en: Whisper, tmp_path: Path) -> None:
    options: TranscriptionKeywords = {"word_timestamps": True, "beam_size": 2}
    expected = tiny_en.transcribe(DATA / "jfk.flac", **options)
    for _ in range(2):
        model = load_model("tiny.en", shared=tmp_path)
        assert model.transcribe(DATA / "jfk.flac", **options) == expected


def test_shared_has_no_effect_on_a_gpu(folder: Path, tmp_path: Path, gpus: Any) -> None:
    load_model(folder, "cuda", shared=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder / name, tmp_path)
    with pytest.raises(TokenizerError, match=r"expected tokenizer\.json, or vocab\.json and merges\.txt"):
        load_model(tmp_path)


def test_another_models_tokenizer_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, vocab_size=51864)
    with pytest.raises(TokenizerError, match="is this another model's tokenizer"):
        load_model(tmp_path)


def test_an_incomplete_checkpoint_is_refused_unless_strict_is_false(tmp_path: Path) -> None:
    write_model(tmp_path, without="model.decoder.layer_norm.bias")
    missing = r"missing tensors \(1\): decoder\.norm\.bias"
    with pytest.raises(WeightsError, match=missing):
        load_model(tmp_path)
    with pytest.warns(UserWarning, match=f"{missing}; missing tensors are filled with zeros") as caught:
        model = load_model(tmp_path, strict=False)
    assert caught[0].filename == __file__  # the caller's line, not one of ours
    assert model.report == LoadReport(("decoder.norm.bias",), ())
    assert not model.weights["decoder"]["norm"]["bias"].any()


HUB_CHILD = """
import json, sys
import numpy as np
import minwhisper
model = minwhisper.load_model(sys.argv[1])
features = model.encode(np.load(sys.argv[2]))
np.save(sys.argv[3], features)
print(json.dumps([model.name, repr(model), model.alignment_heads, model.tokenizer.encode(" and so")]))
"""


def test_a_hub_model_is_downloaded_once_and_computes_the_same_as_its_folder(folder: Path, tmp_path: Path) -> None:
    mel = np.random.default_rng(0).standard_normal((1, 5, 20)).astype(np.float32)
    np.save(tmp_path / "mel.npy", mel)
    expected = load_model(folder)
    repository = Repository({path.name: path.read_bytes() for path in folder.iterdir()})
    arguments = ("some/one-block", str(tmp_path / "mel.npy"), str(tmp_path / "features.npy"))
    with HubServer({"some/one-block": repository}) as hub:
        ours = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
        for fetched in (4, 4):  # the second time it is in the cache
            out = run_python(HUB_CHILD, *arguments, HF_HUB_DISABLE_XET="1", **ours)
            name, text, heads, tokens = json.loads(out)
            assert name == "some/one-block"
            assert text == "<Whisper some/one-block: 0.4 million parameters in float32 on cpu>"
            assert (heads, tokens) == ([[0, 1]], [293, 370])
            np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), expected.encode(mel))
            assert len(hub.fetched()) == fetched


# --- Untrained models ------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_model() -> None:
    mel = np.ones((1, 5, 6), np.float32)
    first, again, other = (Whisper.random(SMALL, seed=seed).encode(mel) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_an_untrained_model_of_a_published_size() -> None:
    model = Whisper.random("tiny", dtype="float16")
    assert model.config == PUBLISHED["tiny"]
    assert count_parameters(model.weights) == 37_760_640
    assert count_parameters(model.weights["decoder"]) == 37_760_640 - 8_208_384
    assert repr(model) == "<Whisper untrained: 37.8 million parameters in float16 on cpu>"
    features = model.encode(np.zeros((1, 80, 200), np.float32))
    assert features.shape == (1, 100, 384)
    assert features.dtype == np.float32


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ModelNotFoundError, match=r"unknown model 'huge': expected one of tiny\.en, tiny, "):
        Whisper.random("huge")


def test_an_untrained_model_has_no_tokenizer() -> None:
    model = Whisper.random(dataclasses.replace(SMALL, vocab_size=51865))
    mel = np.zeros((5, 6), np.float32)
    for ask in (lambda: model.tokenizer.encode("a"), lambda: model.detect_language(mel), lambda: model.decode(mel)):
        with pytest.raises(TokenizerError, match="an untrained model has no tokenizer: load one with"):
            ask()


def test_a_model_is_hashable_equal_to_itself_only_and_frozen(small: Whisper) -> None:
    other = Whisper.random(SMALL)
    assert small == small
    assert small != other
    assert len({small, other, small}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        small.dtype = "float64"  # type: ignore[misc]


# --- encode and logits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "frames", "positions"), [(1, 24, 12), (3, 23, 12), (3, 2, 1), (1, 1, 1)])
def test_two_frames_become_one_position(small: Whisper, batch: int, frames: int, positions: int) -> None:
    assert small.encode(np.ones((batch, 5, frames), np.float32)).shape == (batch, positions, 8)


def test_a_mel_and_features_of_any_dtype_are_converted(small: Whisper, rng: np.random.Generator) -> None:
    mel, features = (rng.standard_normal(shape).astype(np.float16) for shape in ((1, 5, 8), (1, 4, 8)))
    for compute, half in ((small.encode, mel), (lambda array: small.logits([[1, 2]], array), features)):
        expected = compute(half.astype(np.float32))
        assert expected.dtype == np.float32
        for other in (half, half.astype(np.float64)):
            np.testing.assert_array_equal(compute(other), expected)


def test_a_batch_gives_the_same_as_its_rows(small: Whisper, rng: np.random.Generator) -> None:
    mel = rng.standard_normal((3, 5, 10)).astype(np.float32)
    tokens = rng.integers(0, 60, (3, 4))
    features = small.encode(mel)
    logits = small.logits(tokens, features)
    assert logits.shape == (3, 4, 60)
    for row in range(3):
        np.testing.assert_allclose(features[row : row + 1], small.encode(mel[row : row + 1]), atol=1e-5)
        np.testing.assert_allclose(
            logits[row : row + 1], small.logits(tokens[row : row + 1], features[row : row + 1]), atol=1e-5
        )


def test_logits_depend_on_previous_tokens_and_on_the_audio(small: Whisper, rng: np.random.Generator) -> None:
    features = small.encode(rng.standard_normal((1, 5, 24)).astype(np.float32))
    short, long = small.logits([[3, 5]], features), small.logits([[3, 5, 9]], features)
    np.testing.assert_allclose(long[:, :2], short, atol=1e-6)
    assert not np.allclose(small.logits([[3, 6]], features)[:, 1], short[:, 1], atol=1e-6)
    assert not np.allclose(small.logits([[3, 5]], features + 1), short, atol=1e-6)
    np.testing.assert_array_equal(small.logits(np.array([[3, 5]], np.uint8), features), short)


@pytest.mark.parametrize("shape", [(5, 10), (1, 10, 5), (1, 5, 25), (1, 5, 0), (1, 1, 5, 10)])
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
        ([[1.0, 2.0]], "whole numbers of shape .*, got float64"),
        ([[True]], "whole numbers of shape .*, got bool"),
        ([[1, 2], [3]], "rows of different lengths"),
        (np.zeros((1, 0), int), r"1 or more positions\), got int64 \(1, 0\)"),
        ([[]], r"1 or more positions\), got float64 \(1, 0\)"),
        ([[0] * 8], "at most 7 positions"),
    ],
)
def test_other_tokens_are_refused(small: Whisper, tokens: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small.logits(tokens, np.zeros((1, 4, 8), np.float32))


@pytest.mark.parametrize("shape", [(4, 8), (1, 4, 7), (8,), (1, 1, 4, 8)])
def test_features_of_another_shape_are_refused(small: Whisper, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"features: expected \(batch, positions, 8\), got \("):
        small.logits([[1]], np.zeros(shape, np.float32))


# --- Languages -------------------------------------------------------------------------------------------------------


def mel_of(name: str) -> np.ndarray:
    return minwhisper.log_mel_spectrogram(minwhisper.pad_or_trim(minwhisper.load_audio(DATA / name)))


def test_french_is_detected_in_a_mel_and_in_its_features(base: Whisper) -> None:
    mel = mel_of("french.aiff")
    token, row = base.detect_language(mel)
    assert token == base.tokenizer.language_token("fr")
    assert tuple(row) == base.tokenizer.languages
    assert len(row) == 99
    assert all(type(probability) is float and probability >= 0 for probability in row.values())
    assert sum(row.values()) == pytest.approx(1, abs=1e-5)
    assert max(row, key=row.__getitem__) == "fr"
    assert row["fr"] > 0.5
    features = base.encode(mel[None])
    assert base.detect_language(features[0]) == (token, pytest.approx(row, abs=1e-6))
    _, (again,) = base.detect_language(features)
    result = base.decode(features[0], sample_len=1)
    assert (result.language, result.language_probs) == ("fr", again)


def test_languages_of_a_batch_are_those_of_its_rows(base: Whisper) -> None:
    windows = np.stack([mel_of("french.aiff"), mel_of("jfk.flac")])[:, :, :400]
    tokens, rows = base.detect_language(windows)
    assert tokens == [base.tokenizer.language_token(code) for code in ("fr", "en")]
    one_token, one_row = base.detect_language(windows[1:])
    assert one_token == tokens[1:]
    assert one_row == [pytest.approx(rows[1], abs=1e-5)]


def test_an_english_model_cannot_detect_languages(tiny_en: Whisper) -> None:
    with pytest.raises(
        LanguageError, match=r"tiny\.en is English only and cannot detect languages: use one such as 'base'"
    ):
        tiny_en.detect_language(np.zeros((80, 3000), np.float32))


# --- decode -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spoken(tiny_en: Whisper) -> tuple[np.ndarray, np.ndarray]:
    """Return the mels of two windows, (2, 80, 3000), and tiny.en's features of them, (2, 1500, 384)."""
    mels = np.stack([mel_of("jfk.flac"), mel_of("LJ001-0002.wav")])
    return mels, tiny_en.encode(mels)


def test_a_batch_of_windows_gives_the_same_as_one_by_one(tiny_en: Whisper, spoken: Any) -> None:
    mels, features = spoken
    both = tiny_en.decode(features)
    assert [result.text[:21] for result in both] == ["And so my fellow Amer", "in being comparativel"]
    assert type(both) is list
    for window, mel, expected in zip(features, mels, both, strict=True):
        alone = tiny_en.decode(window)
        assert isinstance(alone, DecodingResult)
        assert (alone.tokens, alone.text) == (expected.tokens, expected.text)
        assert alone.avg_logprob == pytest.approx(
            expected.avg_logprob, abs=1e-5
        )  # rounding differs with the batch size
        assert alone.no_speech_prob == pytest.approx(expected.no_speech_prob, rel=1e-4)
        np.testing.assert_array_equal(alone.audio_features, window)
        assert tiny_en.decode(mel).tokens == expected.tokens
    (only,) = tiny_en.decode(features[1:])
    assert only.tokens == both[1].tokens


def test_options_are_an_object_or_keywords_or_both(tiny_en: Whisper, spoken: Any) -> None:
    window = spoken[1][1]
    asked = DecodingOptions(sample_len=3, without_timestamps=True)
    expected = tiny_en.decode(window, asked)
    assert len(expected.tokens) == 3
    assert tiny_en.decode(window, sample_len=3, without_timestamps=True) == expected
    assert tiny_en.decode(window, asked, sample_len=2).tokens == expected.tokens[:2]
    assert asked.sample_len == 3


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


def test_unknown_decoding_options_explain_themselves() -> None:
    for name, message in (("fp16", "fp16: the precision is chosen when"), ("beem_size", "did you mean 'beam_size'")):
        with pytest.raises(OptionError, match=message):
            DecodingOptions(**{name: 5})  # type: ignore[arg-type]


def test_windows_are_sampled_in_order_from_one_generator(tiny_en: Whisper, spoken: Any) -> None:
    options = DecodingOptions(temperature=5.0, sample_len=6)
    twice = np.stack([spoken[1][1]] * 2)
    first, second = tiny_en.decode(twice, options, generator=np.random.default_rng(3))
    assert first.tokens != second.tokens
    one = np.random.default_rng(3)
    assert [tiny_en.decode(window, options, generator=one) for window in twice] == [first, second]
    assert tiny_en.decode(twice, options) == tiny_en.decode(twice, options)
    assert tiny_en.decode(twice, options) == tiny_en.decode(twice, options, generator=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_sise": 5}, "unknown option 'beam_sise': did you mean 'beam_size'"),
        ({"fp16": False}, "fp16: the precision is chosen when the model is loaded"),
        ({"best_of": 5}, "best_of: sampling needs a temperature above 0"),
        ({"temperature": (0.0, 0.2)}, "temperature: expected 0, or above for sampling"),
    ],
)
def test_invalid_options_are_refused_before_the_window_is_encoded(
    tiny_en: Whisper, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        tiny_en.decode(None, **options)


@pytest.mark.parametrize("shape", [(3000,), (3000, 80), (80, 3001), (1500, 511), (1, 1, 80, 3000)])
def test_a_window_of_another_shape_is_refused(base: Whisper, shape: tuple[int, ...]) -> None:
    for method in (base.decode, base.detect_language):
        with pytest.raises(ValueError, match="mel: expected"):
            method(np.zeros(shape, np.float32))


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
    # Not PyAV, safetensors, huggingface_hub, tqdm or CuPy, before they are needed.
    installed = ["tiny.en"] if packaged_model("tiny.en") else []
    brought = run_python(IMPORTS_CHILD, *installed).split()
    kept = {name for name in brought if "cython" not in name}  # Cython's runtime comes with numpy.random
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

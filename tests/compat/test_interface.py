"""Names, arguments and small functions of ``compat``."""

import dataclasses
import importlib
import inspect
import pickle
import subprocess
import sys

import numpy as np
import pytest

import minwhisper.compat as whisper
from inputs import DATA
from minwhisper.compat import model as compat_model
from minwhisper.compat import tokenizer as compat_tokenizer
from minwhisper.compat.conversion import Tensor
from minwhisper.compat.tokenizer import LANGUAGES, TO_LANGUAGE_CODE, get_tokenizer
from minwhisper.errors import MinWhisperError

JFK = DATA / "jfk.flac"
SUBMODULES = ["audio", "decoding", "model", "timing", "tokenizer", "transcribe", "utils"]


def test_install_makes_import_whisper_mean_compat(tmp_path):
    (tmp_path / "whisper.py").write_text("raise SystemExit('the other whisper')")
    program = """
import sys
import minwhisper.compat
minwhisper.compat.install()
import whisper, whisper.transcribe
from whisper.audio import SAMPLE_RATE
from whisper.tokenizer import get_tokenizer
from whisper.utils import get_writer
assert whisper is minwhisper.compat and callable(whisper.transcribe)
assert "torch" not in sys.modules
"""
    path = [str(tmp_path), *filter(None, sys.path)]
    subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}{program}"], check=True)


def test_model_is_loaded_on_the_device_and_moved_by_loading_it_again(tiny_en, monkeypatch):
    loaded = []

    def load(name, device, dtype="float32"):
        loaded.append((name, device, dtype))
        return dataclasses.replace(tiny_en, device="cpu" if device == "auto" else str(device))

    monkeypatch.setattr(compat_model, "load_native_model", load)
    monkeypatch.setattr(compat_model, "resolve_device", str)
    model = whisper.load_model("tiny.en", in_memory=True)
    for unchanged in (model.to("cpu"), model.cpu(), model.eval(), model.half(), model.float(), model.to(np.float16)):
        assert unchanged is model
    assert loaded == [("tiny.en", "auto", "float32")]
    assert model.cuda().device == "cuda"
    assert model.to(device="cuda:1").device.index == 1
    assert model.to(0).device == "cuda:0"
    assert [device for _, device, _ in loaded[1:]] == ["cuda", "cuda:1", "cuda:0"]


def test_download_root_is_accepted_with_a_warning(tiny_en):
    with pytest.warns(UserWarning, match="download_root has no effect.* HF_HOME"):
        model = whisper.load_model("tiny.en", device="cpu", download_root="models")
    assert model.alignment_heads == tiny_en.alignment_heads
    assert sum(np.prod(parameter.shape) for parameter in model.parameters()) == 37_760_256
    assert repr(model) == repr(tiny_en)


def test_dimensions_are_the_configuration_under_other_names(model):
    wrapped = whisper.Whisper(model)
    dims = wrapped.dims
    assert (dims.n_mels, dims.n_audio_ctx, dims.n_text_ctx) == (80, 1500, 448)
    assert dims.n_audio_state == dims.n_text_state == model.config.d_model
    assert dims.n_vocab == model.tokenizer.vocab_size
    assert wrapped.num_languages == len(model.tokenizer.languages)
    assert wrapped.is_multilingual == model.is_multilingual


def test_audio_functions_accept_paths_arrays_and_tensors_but_not_lists():
    mel = whisper.log_mel_spectrogram(str(JFK), device="cpu")
    assert isinstance(mel.half().unsqueeze(0).to("cuda"), Tensor)
    assert type(mel.detach().cpu().numpy()) is np.ndarray
    fitted = whisper.pad_or_trim(mel, 3000)
    assert isinstance(fitted, Tensor)
    assert fitted.shape == (80, 3000)
    assert type(whisper.pad_or_trim(np.zeros(3), 5)) is np.ndarray
    assert whisper.audio.mel_filters("cpu", 128).shape == (128, 201)
    assert (whisper.audio.N_SAMPLES_PER_TOKEN, whisper.audio.TOKENS_PER_SECOND) == (320, 50)
    with pytest.raises(MinWhisperError, match="expected a NumPy or CuPy array, got list"):
        whisper.pad_or_trim([1, 2, 3])
    assert len(whisper.load_audio(str(JFK), sr=8000)) == len(whisper.load_audio(str(JFK))) // 2


def test_options_of_decoding_are_checked():
    assert whisper.DecodingOptions(fp16=False).fp16 is False
    with pytest.raises(ValueError, match="beam_size"):
        whisper.DecodingOptions(beam_size=0)


def test_english_only_models_ignore_language_and_task(tiny_en):
    model = whisper.Whisper(tiny_en)
    silence = np.zeros(16000, np.float32)
    options = {"language": "de", "task": "translate", "temperature": 0.0}
    assert model.transcribe(silence, **options)["language"] == "en"
    mel = whisper.pad_or_trim(whisper.log_mel_spectrogram(silence, padding=1600), 3000)
    assert model.decode(mel, whisper.DecodingOptions(language="de"), sample_len=1, verbose=True).language == "en"
    with pytest.raises(ValueError, match="did you mean 'beam_size'"):
        model.transcribe(silence, beamsize=5)


def test_a_language_has_its_token_and_invalid_languages_are_rejected():
    german = get_tokenizer(True, language="de")
    assert german.language_token == german.to_language_token("de") == 50261
    with pytest.raises(KeyError):
        german.to_language_token("yue")
    for refused, message in (
        (lambda: get_tokenizer(False).language_token, "has no language"),
        (lambda: get_tokenizer(True, num_languages=98), "num_languages: expected 99, or 100"),
        (lambda: get_tokenizer(True, language="klingon"), "unknown language 'klingon'"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()


def test_tokenizer_encodes_special_tokens_if_allowed():
    tokenizer = pickle.loads(pickle.dumps(get_tokenizer(True)))
    text = "<|startoftranscript|> Hello<|endoftext|>"
    assert tokenizer.encode(text, allowed_special="all") == [50258, 2425, 50257]
    assert tokenizer.encode(text, allowed_special={"<|endoftext|>"})[-1] == 50257
    assert len(tokenizer.encode(text)) > 10
    assert tokenizer.decode(np.array([2425, 50364])) == " Hello"
    assert tokenizer.decode_with_timestamps([50364, 2425]) == "<|0.00|> Hello"


def test_the_vocabulary_comes_from_a_package_the_cache_or_a_loaded_model(monkeypatch, base):
    monkeypatch.setattr(compat_tokenizer, "find_checkpoint", lambda name, local_only=False: (name, local_only))
    found, config = compat_tokenizer._find_vocabulary(multilingual=True)
    assert (found.label, config.vocab_size) == ("base", 51865)  # an installed package
    monkeypatch.setattr(compat_tokenizer, "packaged_model", lambda name: None)
    assert compat_tokenizer._find_vocabulary(multilingual=True)[0] == ("tiny", True)  # the hub's cache
    monkeypatch.setattr(compat_tokenizer, "_loaded", {51865: base.tokenizer})
    assert compat_tokenizer._native_tokenizer(51865) is base.tokenizer  # a model that was loaded


def test_small_helpers_return_openai_whispers_values_and_reject_others():
    utils = whisper.utils
    assert utils.exact_div(3000, 1500) == 2
    assert (utils.str2bool("True"), utils.optional_int("None"), utils.optional_float("0.5")) == (True, None, 0.5)
    assert utils.compression_ratio("ha " * 100) > 10
    for call in (lambda: utils.exact_div(3, 2), lambda: utils.str2bool("yes"), lambda: utils.get_writer("doc", ".")):
        with pytest.raises(ValueError, match=r"multiple|True or False|expected one of txt"):
            call()
    with pytest.raises(ValueError, match="expected the defaults, 7 and 1"):
        whisper.timing.find_alignment(None, None, [], None, 0, medfilt_width=5)


@pytest.mark.parity
@pytest.mark.parametrize("name", SUBMODULES)
def test_functions_take_openai_whispers_arguments(name):
    pytest.importorskip("whisper")

    def arguments(function):
        parameters = inspect.signature(function).parameters.values()
        return [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]

    ours, theirs = (vars(importlib.import_module(f"{package}.{name}")) for package in ("minwhisper.compat", "whisper"))
    for function in {*ours} & {*theirs} - {"dtw_cuda"}:  # compat's version runs on the CPU
        if inspect.isfunction(ours[function]) and inspect.isfunction(theirs[function]):
            assert arguments(ours[function]) == arguments(theirs[function]), function


@pytest.mark.parity
def test_constants_and_tokenizers_are_openai_whispers():
    theirs = pytest.importorskip("whisper")
    assert whisper.__version__ == theirs.__version__
    assert list(LANGUAGES.items()) == list(theirs.tokenizer.LANGUAGES.items())
    assert theirs.tokenizer.TO_LANGUAGE_CODE == TO_LANGUAGE_CODE
    fields = [field.name for field in dataclasses.fields(theirs.DecodingOptions)]
    assert [field.name for field in dataclasses.fields(whisper.DecodingOptions)] == fields
    constants = [name for name in vars(theirs.audio) if name.isupper() and name != "F"]
    assert {name: getattr(whisper.audio, name) for name in constants} == {
        name: getattr(theirs.audio, name) for name in constants
    }
    names = [name for name, value in vars(theirs.tokenizer.Tokenizer).items() if hasattr(value, "func")]
    for multilingual, count, language in ((False, 99, None), (True, 99, "fr"), (True, 100, "Cantonese")):
        pair = [
            module.tokenizer.get_tokenizer(multilingual, num_languages=count, language=language)
            for module in (whisper, theirs)
        ]
        for name in (*names, "sot_sequence", "special_tokens", "language", "task", "num_languages"):
            if name != "language_token" or language:
                values = [getattr(each, name) for each in pair]
                # openai-whisper lists languages in the order of a set.
                values = [sorted(each) for each in values] if name.startswith("all_language") else values
                assert values[0] == values[1], name
        text = "Hello, Welt! 世界\ud55c\uad6d <|endoftext|>"
        encoded = [each.encode(text, allowed_special="all") for each in pair]
        assert encoded[0] == encoded[1]
        assert pair[0].split_to_word_tokens(encoded[0]) == pair[1].split_to_word_tokens(encoded[1])

"""Traces, and the doctor: it names the mistakes of another implementation, and nothing else."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

import minwhisper
from command_line import run_command
from inputs import DATA, real_model
from minwhisper.errors import MinWhisperError, OptionError, ShapeError
from minwhisper.model.decoder import decode
from minwhisper.model.encoder import encode
from minwhisper.model.engine import DecoderInput
from minwhisper.model.layers import conv1d, gelu, linear
from minwhisper.parity import mistakes
from minwhisper.parity.comparison import pytorch_model
from minwhisper.parity.doctor import diagnose
from minwhisper.parity.graph import MappedWeights, network, run
from minwhisper.parity.mistaken_functions import NAMES
from minwhisper.parity.names import hugging_face_name, known_names
from minwhisper.parity.precision import round_to_int8
from minwhisper.parity.recording import Recording
from minwhisper.parity.theirs import Theirs, open_theirs
from minwhisper.parity.tracing import place
from ports import port, same, stereo_clip, two_sequences, uses_window

WITHOUT_A_FILE = [name for name in mistakes.MISTAKES if not uses_window(name)]


@pytest.fixture(scope="module")
def tiny_en():
    return real_model("tiny.en", plain=True)


@pytest.fixture(scope="module")
def two_blocks(tiny_en):
    """Return tiny.en cut to two blocks in each half: it has every kind of stage, and takes half the time."""
    config = replace(tiny_en.config, encoder_layers=2, decoder_layers=2)
    return replace(tiny_en, config=config, weights=first_blocks(tiny_en.weights), alignment_heads=())


def first_blocks(weights):
    return {half: {**layers, "blocks": layers["blocks"][:2]} for half, layers in weights.items()}


@pytest.fixture(scope="module")
def half_second():
    return minwhisper.load_audio(DATA / "jfk.flac")[8000:16000]


@pytest.fixture(scope="module")
def correct(two_blocks, half_second):
    return port(two_blocks, two_sequences(two_blocks), (), half_second)


@pytest.fixture(scope="module")
def exact(two_blocks):
    """Return the trace of the clip."""
    stages = ["mel", "encoder.*", "decoder.*", "logits"]
    return minwhisper.trace(two_blocks, DATA / "jfk.flac", tokens=two_sequences(two_blocks)[:1], stages=stages)


def found_in(report):
    return {name for stage in report.stages for name in stage.mistakes}


# --- Traces ---------------------------------------------------------------------------------------------------------


def test_a_trace_has_exactly_what_the_layers_compute(two_blocks, exact):
    weights = first_blocks(minwhisper.load_model("tiny.en", dtype="float64").weights)
    features = encode(exact["mel"], weights["encoder"], two_blocks.config)
    assert np.allclose(exact["encoder.norm"], features, rtol=0, atol=1e-12)
    logits = decode(exact["tokens"], features, weights["decoder"], two_blocks.config)
    assert np.allclose(exact["logits"], logits, rtol=0, atol=1e-11)


def test_large_stages_are_traced_only_if_they_are_named(tiny_en, half_second):
    tokens = [tiny_en.tokenizer.sot]
    names = minwhisper.trace(tiny_en, half_second, tokens=tokens, stages=["decoder.blocks.0.attention*"])
    assert not any(name.endswith((".weights", ".scores")) for name in names)
    named = minwhisper.trace(tiny_en, half_second, tokens=tokens, stages=["decoder.blocks.0.attention.weights"])
    assert named["decoder.blocks.0.attention.weights"].shape == (1, 6, 1, 1)


def test_the_text_is_decoded_only_if_the_stages_need_it(tiny_en, half_second):
    assert set(minwhisper.trace(tiny_en, half_second, stages=["encoder.stem"])) == {"encoder.stem"}
    found = minwhisper.trace(tiny_en, DATA / "jfk.flac", stages=["decoder.stem"])
    assert set(found) == {"tokens", "decoder.stem"}
    assert tiny_en.tokenizer.decode(found["tokens"][0, 2:]).startswith(" And so my fellow Americans")


def test_every_name_of_a_module_of_transformers_is_known_to_compare(tiny_en):
    stages = network(tiny_en.config)
    known = known_names(stages, tiny_en.config)
    for name in stages:
        assert known[hugging_face_name(name).removeprefix("model.")] == name


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("trace.safetensors", "mel,encoder.conv1,encoder.stem,decoder.stem,decoder.blocks.0.attention*"),
        ("trace.npz", "frames,power,log_mel,mel,encoder.conv1*"),
    ],
)
def test_the_commands_write_a_trace_and_find_nothing_wrong_with_it(tmp_path, capfd, file, stages):
    real_model("tiny.en")
    path, which = tmp_path / file, ("--model", "tiny.en")
    options = ("--stages", stages, *which, "--names", "hf", "--tokens", "50257,50362,843")
    done = run_command(capfd, "trace", DATA / "jfk.flac", "-o", path, *options)
    assert done.status == 0, done.err
    compared = run_command(capfd, "compare", path, *which, "--json")
    assert compared.status == 0, compared.err
    report = json.loads(compared.out)
    assert report["first_wrong"] is None
    assert {stage["verdict"] for stage in report["stages"]} == {"float64"}
    assert len(report["stages"]) >= 5


# --- Diagnoses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [name if i % 12 == 0 else pytest.param(name, marks=pytest.mark.grid) for i, name in enumerate(WITHOUT_A_FILE)],
)
def test_a_mistake_is_named_and_no_other(two_blocks, half_second, correct, name):
    arrays = port(two_blocks, two_sequences(two_blocks), (name,), half_second)
    report = diagnose(two_blocks, Theirs.of(arrays))
    if same(arrays, correct):
        assert name in ("80 bins for 128", "blocks in the order of their names", "timestamps not suppressed")
        assert not found_in(report)
    else:
        assert found_in(report) == {name}


@pytest.mark.parametrize(
    "name",
    [
        name if i % 2 == 0 else pytest.param(name, marks=pytest.mark.grid)
        for i, name in enumerate(name for name in mistakes.MISTAKES if uses_window(name))
    ],
)
def test_a_mistake_in_loading_a_file_is_named(two_blocks, tmp_path, name):
    path = stereo_clip(tmp_path)
    edits = mistakes.MISTAKES[name].edits
    wrong = run(
        network(two_blocks.config),
        ["samples"],
        {"recording": Recording(path)},
        place(two_blocks),
        edits=edits,
        names=NAMES,
    )
    report = diagnose(two_blocks, Theirs.of(dict(wrong)), audio=path)
    assert [stage.mistakes for stage in report.stages] == [(name,)]


def test_a_second_mistake_behind_the_first_is_named(two_blocks, half_second):
    names = ("kernel flipped", "epsilon 1e-6")
    report = diagnose(two_blocks, Theirs.of(port(two_blocks, two_sequences(two_blocks), names, half_second)))
    assert found_in(report) == set(names)
    assert report.first_wrong.stage == "encoder.conv1"


def test_xla_padding_and_a_skipped_output_projection_are_named(two_blocks, exact):
    """The port is built by hand, and dumps only a few arrays, with channels first and heads separate."""
    encoder = two_blocks.weights["encoder"]
    mel = exact["mel"].astype(np.float32)[:, :, :400]
    x = gelu(conv1d(mel.transpose(0, 2, 1), **encoder["conv1"]))
    padded = np.pad(x, ((0, 0), (0, 1), (0, 0)))
    taps = [padded[:, tap : tap + 399 : 2] @ encoder["conv2"]["weight"][:, :, tap].T for tap in range(3)]
    stem = gelu(sum(taps) + encoder["conv2"]["bias"]) + encoder["positions"][:200]
    weights = encoder["blocks"][0]["attention"]
    mixed = np.random.default_rng(0).standard_normal((1, 200, 384)).astype(np.float32)
    theirs = {
        "input_features": mel,
        "encoder_hidden_states.0": stem.transpose(0, 2, 1),
        "encoder.blocks.0.attention.mixed": mixed.reshape(200, 6, 64),
        "encoder.blocks.0.attn.out": mixed[0],
        "encoder.blocks.0.attn.value": linear(mixed, **weights["value"]),
    }
    report = diagnose(two_blocks, Theirs.of(theirs))
    by_stage = {stage.stage: stage for stage in report.stages}
    assert by_stage["encoder.stem"].mistakes == ("'same' padding of XLA",)
    assert by_stage["encoder.stem"].axes == "axes B D T"
    assert by_stage["encoder.blocks.0.attention.out"].mistakes == ("no output projection",)
    assert by_stage["encoder.blocks.0.attention.mixed"].verdict == "wrong"


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        (lambda x: x * 1.5, "a constant factor of 1.5"),
        (lambda x: x + 0.25, "a constant of 0.25 is added"),
        (lambda x: np.roll(x, 1, axis=1), "shifted by 1 to the end"),
        (lambda x: np.concatenate([x[:, :1] + 1, x[:, 1:]], axis=1), "only 1 of 25 positions differ: 0"),
        (lambda x: np.concatenate([x[..., :64] ** 2, x[..., 64:]], axis=-1), "only heads 0 of 6 differ"),
    ],
)
def test_an_unknown_mistake_is_said_to_be_unknown_and_described(two_blocks, correct, change, remark):
    arrays = {**correct, "encoder.blocks.1.attention.out": change(correct["encoder.blocks.1.attention.out"])}
    report = diagnose(two_blocks, Theirs.of(arrays))
    wrong = [stage for stage in report.stages if stage.verdict == "wrong"]
    assert wrong[0].stage == "encoder.blocks.1.attention.out"
    assert wrong[0].remark == remark


def test_a_random_output_projection_is_recognised(two_blocks, correct):
    random = np.random.default_rng(0).standard_normal((two_blocks.config.vocab_size, 384)).astype(np.float32)
    arrays = {**correct, "logits": correct["decoder.norm"] @ random.T}
    del arrays["log_probabilities"], arrays["next_tokens"]
    report = diagnose(two_blocks, Theirs.of(arrays))
    assert found_in(report) == {"output projection not tied"}


@pytest.mark.parametrize(
    ("tokens", "name"),
    [
        ([50258, 50363, 843], "ids of the multilingual vocabulary"),
        ([843, 523], "no start of transcript"),
        ([50257, 843], "<|notimestamps|> missing"),
    ],
)
def test_wrong_tokens_are_named(two_blocks, correct, tokens, name):
    report = diagnose(
        two_blocks, Theirs.of({"mel": correct["mel"], "tokens": np.array([tokens]), "samples": correct["samples"]})
    )
    assert report.first_wrong.mistakes == (name,)


def test_tokens_that_are_right_are_not_complained_about(two_blocks, correct):
    ids = np.array([50360, 843, 50257, 50362, 843])
    report = diagnose(two_blocks, Theirs.of({"mel": correct["mel"], "tokens": ids, "samples": correct["samples"]}))
    assert report.first_wrong is None


def test_the_fast_engine_is_right(tiny_en, half_second):
    fast = real_model("tiny.en")
    mel = minwhisper.log_mel_spectrogram(half_second)[None]
    tokens = two_sequences(tiny_en)[:1]
    features = fast.encode(mel)
    with fast.engine.session():
        ((logits, _),) = fast.engine.decode_batch([DecoderInput(tokens.tolist(), fast.engine.new_cache(features))])
    arrays = {"samples": half_second, "mel": mel, "tokens": tokens, "features": features, "logits": logits}
    report = diagnose(tiny_en, Theirs.of(arrays))
    assert [(stage.stage, stage.verdict) for stage in report.stages] == [
        ("mel", "float32"),
        ("encoder.norm", "float32"),
        ("logits", "float32"),
    ]


def test_int8_weights_are_not_called_a_mistake(two_blocks, half_second):
    stored = MappedWeights(two_blocks.weights, lambda array: round_to_int8(array) if array.ndim == 2 else array)
    quantised = replace(two_blocks, weights=stored)
    report = diagnose(two_blocks, Theirs.of(port(quantised, two_sequences(two_blocks), (), half_second)))
    assert not found_in(report)
    assert {stage.verdict for stage in report.stages} == {"float64", "float32", "int8 or bfloat16", "int8"}


def test_blocks_that_were_sorted_by_name_are_named_in_a_model_with_more_than_ten(tiny_en, half_second):
    layers = {"encoder_layers": 12, "decoder_layers": 12, "d_model": 48, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96}
    deep = replace(
        minwhisper.Whisper.random(replace(tiny_en.config, **layers)), tokenizer=tiny_en.tokenizer, plain=True
    )
    name = "blocks in the order of their names"
    report = diagnose(deep, Theirs.of(port(deep, two_sequences(deep), (name,), half_second)))
    assert found_in(report) == {name}
    assert not any(stage.mistakes for stage in report.stages if ".blocks.1." in stage.stage)


@pytest.mark.parity
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_correct_pytorch_model_gets_no_diagnosis_but_its_precision(two_blocks, correct, precision):
    torch = pytest.importorskip("torch")
    pytest.importorskip("whisper")
    theirs = pytorch_model(two_blocks).to(getattr(torch, precision))
    for module in theirs.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.float()  # as openai-whisper computes it
    theirs.encoder.positional_embedding = theirs.encoder.positional_embedding[:25]
    mel = torch.tensor(correct["mel"]).to(getattr(torch, precision))
    arrays = {"mel": mel.float().numpy(), "tokens": correct["tokens"][:1]}
    for name, module in theirs.named_modules():
        if name and "blocks" in name and not name.endswith(("attn", "blocks")):
            module.register_forward_hook(
                lambda _module, _inputs, output, name=name: arrays.__setitem__(name, output.float().numpy())
            )
    if precision == "float32":
        with torch.no_grad():
            theirs.decoder(torch.tensor(arrays["tokens"]), theirs.encoder(mel))
    else:
        with torch.no_grad():
            theirs.encoder(mel)
    report = diagnose(two_blocks, Theirs.of(arrays))
    assert {stage.verdict for stage in report.stages} == {precision}
    assert report.precision == precision
    assert len(report.stages) >= 20


# --- Bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"hello, world, this is text", "expected safetensors or .npz"),
        (b"PK\x03\x04" + bytes(80), "not a complete .npz"),
    ],
)
def test_a_file_in_another_format_is_refused(tmp_path, content, message):
    path = tmp_path / "theirs"
    path.write_bytes(content)
    with pytest.raises(MinWhisperError, match=message):
        open_theirs(path)


def test_a_file_without_any_array_is_refused(tmp_path):
    save_file({}, tmp_path / "none.safetensors")
    with pytest.raises(MinWhisperError, match="no arrays"):
        open_theirs(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("arrays", "kind", "message"),
    [
        ({"unknown": np.zeros(3)}, OptionError, "none of the 1 arrays has a known name"),
        ({"mel": np.zeros((1, 80, 20))}, OptionError, "nothing to compare"),
        ({"encoder.stem": np.zeros((1, 10, 512))}, ShapeError, "expected B × T × D = 384 for encoder.stem"),
        ({"mel": np.full((1, 80, 20), np.nan)}, MinWhisperError, "1,600 values that are NaN"),
        ({"logits": np.zeros((1, 3, 51864)), "mel": np.zeros((1, 80, 20))}, OptionError, "--tokens"),
        ({"tokens": np.array([[60000]]), "mel": np.zeros((1, 80, 20))}, ShapeError, "expected ids from 0 to 51863"),
    ],
    ids=["no known name", "only an input", "another width", "NaN", "no tokens", "another vocabulary"],
)
def test_arrays_that_cannot_be_compared_are_refused(two_blocks, arrays, kind, message):
    with pytest.raises(kind, match=message):
        diagnose(two_blocks, Theirs.of(arrays))


def test_a_map_gives_arrays_of_other_names_their_stages(two_blocks, correct):
    theirs = {"spec": correct["mel"], "front": correct["encoder.conv1"], "odd": np.zeros(2)}
    report = diagnose(two_blocks, Theirs.of(theirs), names={"spec": "mel", "front": "encoder.conv1"})
    assert [stage.stage for stage in report.stages] == ["encoder.conv1"]
    assert report.unmatched == ["odd"]

"""The configuration: invalid values, config.json, and the published sizes."""

import dataclasses
import math

import pytest

from minwhisper.errors import ConfigError
from minwhisper.model.config import ALIASES, PUBLISHED, WhisperConfig
from minwhisper.model.weight_names import expected_shapes

TINY = PUBLISHED["tiny"]
TINY_JSON = dataclasses.asdict(TINY) | {"activation_function": "gelu", "scale_embedding": False, "dropout": 0.0}


@pytest.mark.parametrize("value", [0, -4, 4.0, "4", None, True, float("nan"), 10**9, 2**63])
def test_values_are_positive_integers_within_limits(value):
    for field in dataclasses.fields(WhisperConfig):
        with pytest.raises(ConfigError, match=rf"^{field.name}: expected a whole number from 1 to \d+, got {value!r}$"):
            dataclasses.replace(TINY, **{field.name: value})


def test_heads_must_divide_the_width_which_must_be_even():
    for half in ("encoder", "decoder"):
        with pytest.raises(ConfigError, match=rf"^{half}_attention_heads: 7 heads do not divide d_model, 384"):
            dataclasses.replace(TINY, **{f"{half}_attention_heads": 7})
    with pytest.raises(ConfigError, match=r"d_model: expected an even width .* got 385"):
        dataclasses.replace(TINY, d_model=385, encoder_attention_heads=5, decoder_attention_heads=5)


def test_a_configuration_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TINY.d_model = 512


@pytest.mark.parametrize("lacking", [None, "max_source_positions", "max_target_positions", "activation_function"])
def test_keys_that_old_files_lack_have_defaults(lacking):
    assert WhisperConfig.from_dict({k: v for k, v in TINY_JSON.items() if k != lacking}) == TINY


def test_all_missing_keys_are_named():
    rest = {key: value for key, value in TINY_JSON.items() if key not in ("d_model", "vocab_size")}
    with pytest.raises(ConfigError, match="lacks d_model, vocab_size: is this a Whisper checkpoint"):
        WhisperConfig.from_dict(rest)


@pytest.mark.parametrize(("key", "value"), [("activation_function", "relu"), ("scale_embedding", True)])
def test_settings_that_whisper_does_not_have_are_rejected(key, value):
    with pytest.raises(ConfigError, match=rf"^{key}: Whisper has .*, this config.json has {value!r}$"):
        WhisperConfig.from_dict(TINY_JSON | {key: value})


def test_parameter_counts_of_the_published_models():
    counts = {
        name: sum(math.prod(shape) for shape in expected_shapes(config).values()) for name, config in PUBLISHED.items()
    }
    assert counts == {  # counted in the checkpoints on the model hub; the paper gives 39, 74, 244, 769 and 1550 million
        "tiny.en": 37_760_256,
        "tiny": 37_760_640,
        "base.en": 72_593_408,
        "base": 72_593_920,
        "small.en": 241_734_144,
        "small": 241_734_912,
        "medium.en": 763_856_896,
        "medium": 763_857_920,
        "large-v1": 1_543_304_960,
        "large-v2": 1_543_304_960,
        "large-v3": 1_543_490_560,
        "large-v3-turbo": 808_878_080,
    }


def test_published_heads_are_64_wide_and_english_models_have_the_smallest_vocabulary():
    for name, config in PUBLISHED.items():
        assert config.d_model == 64 * config.encoder_attention_heads == 64 * config.decoder_attention_heads
        assert config.is_multilingual != name.endswith(".en")


def test_aliases_name_published_models():
    assert PUBLISHED[ALIASES["large"]].decoder_layers == 32
    assert PUBLISHED[ALIASES["turbo"]].decoder_layers == 4
    assert not set(ALIASES) & set(PUBLISHED)

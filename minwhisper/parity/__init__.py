"""The exactness of each stage of the model, and a doctor for other implementations of Whisper.

*How exact is this package?* In: a model. Out: per stage, its relative difference from values that openai-whisper's
model computed in float64, next to that of openai-whisper in float32. ``comparison`` has all of it; ``reference/`` holds
the stored values and the clip. ``minwhisper parity tiny.en`` prints the table.

*What is wrong with another implementation?* In: arrays that it computed, by name. Out: the first stage that is wrong,
and the mistake that gives such values. Read ``graph`` (the network as named stages), ``tracing`` (their exact values),
``mistakes`` (the catalogue) and ``doctor`` (the comparison); ``mistaken_functions``, ``token_mistakes``, ``names``,
``precision``, ``recording`` and ``theirs`` help them. Any of the arrays will do: each is compared with the exact result
for the arrays before it. For instance::

    $ minwhisper compare theirs.npz --model tiny.en
    ...
    encoder.stem  1×1500×384  1.1e+01  2.5e-01  2.5e-01  'same' padding of XLA
    ...
    The first stage that is wrong is encoder.stem.

To dump the output of every module of a Transformers model::

    arrays = {"input_features": features.numpy(), "decoder_input_ids": ids.numpy()}
    def keep(name):
        def hook(module, inputs, output):
            array = output[0] if isinstance(output, tuple) else output
            if isinstance(array, torch.Tensor):
                arrays[name] = array.float().numpy()
        return hook
    for name, module in model.named_modules():
        module.register_forward_hook(keep(name))
    with torch.no_grad():
        model(input_features=features, decoder_input_ids=ids)
    numpy.savez("theirs.npz", **arrays)

openai-whisper's modules are dumped in the same way: call ``model(mel, tokens)``, and keep its inputs as
``arrays["mel"]`` and ``arrays["tokens"]``.

Walkthrough: section 15.
"""

from .comparison import (
    TOLERANCE,
    Reference,
    StageComparison,
    check_comparable,
    clip_samples,
    compare,
    generated_tokens,
    load_reference,
    pytorch_model,
    pytorch_stages,
    pytorch_tokens,
    relative_difference,
    stages,
    subsample,
    window_mel,
)

__all__ = [
    "TOLERANCE",
    "Reference",
    "StageComparison",
    "check_comparable",
    "clip_samples",
    "compare",
    "generated_tokens",
    "load_reference",
    "pytorch_model",
    "pytorch_stages",
    "pytorch_tokens",
    "relative_difference",
    "stages",
    "subsample",
    "window_mel",
]

"""The models of these tests encode each clip once."""

from remembering import base, model, pytorch, tiny_en  # noqa: F401 (fixtures)

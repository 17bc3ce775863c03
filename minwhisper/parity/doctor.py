"""The doctor: compare another implementation's arrays with the exact ones, stage by stage, and name the mistakes.

"They" are the authors of the other implementation. Each of their arrays is compared twice: with the exact value, which
the model computes from their samples, spectrogram and tokens; and with the *stage's own* value, which is computed
exactly from the nearest arrays before it that they give. The first difference shows how far off they are. The second is
large only where something is wrong, so it also finds a second mistake after the first.

If a stage's own difference is more than rounding, every mistake of the catalogue that could have been made between
those arrays is tried, and the one that reproduces their values is named.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from ..common.backend import Array
from ..common.edits import EditError, Mistake
from ..errors import OptionError, ShapeError
from ..printable import printable
from ..whisper import Whisper
from .graph import Stage, needed, network, run
from .mistaken_functions import NAMES
from .mistakes import HARMLESS, MISTAKES, UNTIED
from .names import match, readings, sizes
from .precision import (
    COARSE_SLACK,
    FLOAT64_ERROR,
    LOW,
    ROUNDINGS,
    SLACK,
    name_precision,
    relative_error,
    representable,
    to_float32,
)
from .recording import Recording
from .theirs import Theirs
from .token_mistakes import token_mistake
from .tracing import check_token_ids, generate, place

PAIRS_TRIED = 150  # at most, of mistakes in one stage
IN_REACH = ("float64", "float32")


@dataclass(frozen=True)
class StageReport:
    """The comparison of one of their arrays."""

    stage: str
    name: str  # theirs
    shape: tuple[int, ...]  # theirs
    axes: str  # how their axes are rearranged, "" if not
    largest: float  # difference from the exact values
    relative: float  # difference from the exact values: ‖theirs - exact‖ / ‖exact‖
    own: float  # relative difference from the exact result for their own arrays before it
    verdict: str  # a precision, "mistake", "convention" or "wrong"
    mistakes: tuple[str, ...] = ()  # the names of those that reproduce their values
    remark: str = ""  # on a difference that no known mistake explains


@dataclass
class Report:
    """The result of a comparison."""

    model: str
    stages: list[StageReport] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)  # their arrays that everything else was computed from
    unmatched: list[str] = field(default_factory=list)  # their names that match no stage
    hints: dict[str, str] = field(default_factory=dict)  # by name: the hints of the mistakes that were found

    @property
    def first_wrong(self) -> StageReport | None:
        """The first stage that differs by more than float32's rounding."""
        return next((stage for stage in self.stages if stage.verdict not in (*IN_REACH, "convention")), None)

    @property
    def precision(self) -> str:
        """The lowest precision among the stages that are right."""
        order = (*IN_REACH, "TF32", "float16", "float16 with sums in float16", "bfloat16", "int8 or bfloat16", "int8")
        return max((stage.verdict for stage in self.stages if stage.verdict in order), key=order.index, default="")


class Given(Mapping[str, Any]):
    """Their arrays by stage, with our axes, in float64; each is read when it is needed."""

    def __init__(self, theirs: Theirs, names: Mapping[str, str], stages: Mapping[str, Stage], model: Whisper) -> None:
        """Take the arrays ``names`` of a file, a mapping from stage to their name."""
        self.fixed: dict[str, Any] = {}  # values that are not from the file
        self.axes: dict[str, str] = {}
        self._theirs, self._names, self._stages, self._model = theirs, names, stages, model
        self._reading: dict[str, int] = {}  # by stage: the index of the reading of its array that fits
        self._recent: dict[str, Array] = {}

    def __getitem__(self, stage: str) -> Any:
        """Return the value of a stage. Raises ``KeyError`` if they do not give it."""
        if stage in self.fixed:
            return self.fixed[stage]
        if stage not in self._recent:
            found, self.axes[stage] = next(islice(self._readings(stage), self._reading.get(stage, 0), None))
            self._recent[stage] = found
            while len(self._recent) > 8:
                del self._recent[next(iter(self._recent))]
        return self._recent[stage]

    def _readings(self, stage: str) -> Iterator[tuple[Array, str]]:
        array = self._theirs.read(self._names[stage])
        shape, half = ("B S", "decoder") if stage == "tokens" else (self._stages[stage].shape, self._stages[stage].half)
        yield from readings(array, shape, self._model.config, half)

    def choose_axes(self, stage: str, exact: Array) -> None:
        """Of the ways to read an array, choose the one that is nearest to the exact values."""
        errors = [relative_error(found, exact) for found, _ in self._readings(stage)]
        if len(errors) > 1:
            self._reading[stage] = int(np.argmin(errors))
            self._recent.pop(stage, None)

    def check(self, stage: str) -> None:
        """Raise ``ShapeError`` if their array cannot be read as the stage at all."""
        if next(self._readings(stage), None) is None:
            shape = self._stages[stage].shape
            half = self._stages[stage].half
            known = sizes(self._model.config, half)
            expected = " × ".join(
                f"{letter} = {known[letter]}" if letter in known else letter for letter in shape.split()
            )
            name = self._names[stage]
            raise ShapeError(
                f"{printable(name, 80)}: expected {expected} for {stage}, in any order, got "
                f"{self._theirs.shape(name)}; is it from a model other than {self._model.name}, or another value?"
            )

    def __contains__(self, stage: object) -> bool:
        """Return whether they give the stage."""
        return stage in self.fixed or stage in self._names

    def __iter__(self) -> Iterator[str]:
        """Yield the stages that they give."""
        return iter({**self.fixed, **self._names})

    def __len__(self) -> int:
        """Return the number of stages that they give."""
        return len({**self.fixed, **self._names})


def diagnose(
    model: Whisper,
    theirs: Theirs,
    *,
    names: Mapping[str, str] | None = None,
    audio: Any = None,
    tokens: Any = None,
) -> Report:
    """Compare another implementation's arrays with a model's, and name the mistakes.

    Args:
        model: the model whose weights they used.
        theirs: their arrays, from ``open_theirs`` or ``Theirs.of``.
        names: the stage for each of their names that is not recognised (see ``known_names``).
        audio: the recording, a file or samples, if they do not give the samples or the spectrogram.
        tokens: the input of the decoder, if they do not give it.

    Raises ``OptionError`` if nothing can be compared, ``ShapeError`` for an array that cannot be a stage's.
    """
    return _Comparison(model, theirs, names or {}, audio, tokens).report()


class _Comparison:
    """A comparison in progress."""

    def __init__(self, model: Whisper, theirs: Theirs, names: Mapping[str, str], audio: Any, tokens: Any) -> None:
        self.model, self.graph, self.at = model, network(model.config), place(model)
        found, unmatched = match(theirs.names(), self.graph, model.config, names)
        if not found:
            raise OptionError(
                f"{theirs.label}: none of the {len(theirs.names())} arrays has a known name; expected names such as "
                "'mel' or 'encoder.blocks.0', those of Transformers' or openai-whisper's modules, or a map (--map)"
            )
        self.found = Report(model.name, unmatched=unmatched)
        self.given = Given(theirs, {stage: name for name, stage in found.items()}, self.graph, model)
        self.names = {stage: name for name, stage in found.items()}
        if audio is not None:
            self.given.fixed["recording"] = Recording(audio)
        if tokens is not None:
            self.given.fixed["tokens"] = check_token_ids(tokens, model)
        for stage in self.names:
            if stage != "tokens":
                self.given.check(stage)
        self._settle_tokens()
        self.suspects: list[str] = []  # mistakes that were found, the latest first
        self.explanations: dict[str, list[tuple[str, ...]]] = {}  # by stage: the choices that explain it equally well

    def _settle_tokens(self) -> None:
        """Determine the tokens if an array depends on them: theirs, or those that greedy search finds."""
        if "tokens" in self.given:
            self.given.fixed["tokens"] = check_token_ids(self.given["tokens"], self.model)
            self.names.pop("tokens", None)
            return
        texts = [
            stage for stage in self.names if self.graph[stage].half == "decoder" and "S" in self.graph[stage].shape
        ]
        if not texts:
            return
        length = self.given[texts[0]].shape[self.graph[texts[0]].shape.split().index("S")]
        if "recording" in self.given.fixed:
            ids = generate(self.model, self.given.fixed["recording"])
            if ids.shape[1] >= length:
                self.given.fixed["tokens"] = ids[:, :length]
                return
        raise OptionError(
            f"{self.names[texts[0]]} depends on the tokens, {length} of them: give them as an array 'tokens' (or "
            "'decoder_input_ids') or with --tokens"
        )

    def report(self) -> Report:
        """Compare all stages."""
        self._check_tokens()
        inputs = ("recording", "tokens", "samples", "mel")
        roots = {name: self.given[name] for name in inputs if name in self.given and self._is_input(name)}
        wanted = self._reachable(roots)
        for name, exact in run(self.graph, wanted, roots, self.at):
            if name in self.names:
                self.given.choose_axes(name, exact)
                self.found.stages.append(self._compare(self.graph[name], exact))
        self._reconcile()
        if not self.found.stages:
            raise OptionError(
                f"nothing to compare: {', '.join(self.found.taken) or 'what they give'} can only be an input; give "
                "arrays after it, or the recording (--audio)"
            )
        return self.found

    def _reconcile(self) -> None:
        """If several mistakes explain a stage, name the one that explains most stages."""
        open_stages = {stage: choices for stage, choices in self.explanations.items() if len(choices) > 1}
        votes = Counter(choice for choices in self.explanations.values() for choice in choices)
        for i, report in enumerate(self.found.stages):
            if report.stage in open_stages:
                chosen = max(open_stages[report.stage], key=votes.__getitem__)  # of equal ones the first
                self.found.stages[i] = replace(report, mistakes=chosen)
        for report in self.found.stages:
            for name in report.mistakes:
                if name not in self.found.hints:
                    self.found.hints[name] = MISTAKES[name].hint if name in MISTAKES else UNTIED

    def _check_tokens(self) -> None:
        if "tokens" in self.given:
            for row in self.given["tokens"]:
                wrong = token_mistake(row, self.at)
                if wrong is not None:
                    self.found.hints[wrong.name] = wrong.hint
                    shape = tuple(self.given["tokens"].shape)
                    report = StageReport(
                        "tokens", "tokens", shape, "", np.inf, np.inf, np.inf, "mistake", (wrong.name,)
                    )
                    self.found.stages.append(report)
                    return

    def _is_input(self, name: str) -> bool:
        """Return whether the model accepts their array as an input; a spectrogram may have another shape."""
        config = self.model.config
        if name != "mel":
            return True
        _, bins, frames = self.given["mel"].shape
        return bool(bins == config.num_mel_bins and frames <= 2 * config.max_source_positions)

    def _reachable(self, roots: dict[str, Any]) -> list[str]:
        """Return their stages that can be computed; one whose inputs are missing becomes another root."""
        wanted, reachable = [], set(roots)
        for name, stage in self.graph.items():
            if all(source in reachable for source in stage.inputs):
                reachable.add(name)
                if name in self.names:
                    wanted.append(name)
            elif name in self.names and self._is_input(name):
                roots[name] = self.given[name]
                reachable.add(name)
                if name not in ("samples", "mel"):
                    self.found.taken.append(self.names[name])
        return wanted

    def _compare(self, stage: Stage, exact: Array) -> StageReport:
        values, name = self.given[stage.name], self.names[stage.name]
        largest = float(np.nanmax(np.abs(values - exact))) if values.shape == exact.shape else np.inf
        overall = relative_error(values, exact)
        own = self._computed(stage, 64)
        error = np.inf if own is None else relative_error(values, own)
        verdict, mistakes, remark = self._judge(stage, values, own, error)
        axes = self.given.axes.get(stage.name, "")
        return StageReport(stage.name, name, values.shape, axes, largest, overall, error, verdict, mistakes, remark)

    def _computed(self, stage: Stage, precision: int | str, mistakes: Sequence[str] = ()) -> Array | None:
        """Compute a stage from their arrays, in float64, float32 or a lower precision, with these mistakes.

        Return None if that is impossible: a mistake may not apply, or their arrays may not fit together.
        """
        options: dict[str, Any] = {"edits": [edit for name in mistakes for edit in MISTAKES[name].edits]}
        given: Mapping[str, Any] = self.given
        if precision != 64:
            convert = to_float32 if precision == 32 else ROUNDINGS[str(precision)]
            options["convert"], given = convert, _Converted(self.given, convert)
        options["names"] = {**NAMES, "theirs": self.given[stage.name]}
        try:
            with np.errstate(all="ignore"):
                for _, value in run(self.graph, [stage.name], given, self.at, **options):
                    return value
        except (KeyError, ValueError, IndexError, TypeError, EditError):
            return None
        return None

    def _judge(self, stage: Stage, values: Array, own: Array | None, error: float) -> tuple[str, tuple[str, ...], str]:
        """Return the verdict on a stage, the mistakes, and a remark."""
        if error <= FLOAT64_ERROR:
            return "float64", (), ""
        held = representable(values) if error > 1e-5 else None
        if held is not None and error <= COARSE_SLACK * self._expected(stage, own, held):
            return held, (), ""  # a smaller error cannot be distinguished from this rounding
        rounding = self._expected(stage, own, 32)
        if error <= SLACK * rounding:
            return "float32", (), ""
        expected = {precision: self._expected(stage, own, precision) for precision in LOW}
        label = name_precision(error, expected, values)
        if label is not None and held is not None:
            return label, (), ""
        candidates = self._candidates(stage)
        singles = self._tried(stage, [(name,) for name in candidates], values, SLACK * rounding)
        if singles and singles[0][0] <= SLACK * rounding:
            self.explanations[stage.name] = [names for remaining, names in singles if remaining == singles[0][0]]
            return self._named(singles[0][1])
        if label is not None:
            return label, (), ""
        reach = max(SLACK * rounding, 3 * expected["bfloat16"])
        without = np.inf if own is None else relative_error(own, values)  # what remains without a mistake
        if singles and singles[0][0] <= min(without / 10, reach):
            return self._named(singles[0][1])
        best = [name for _, (name,) in singles[:6]]
        pairs = [(one, other) for one in best for other in candidates if one != other]
        double = self._tried(stage, list(dict.fromkeys(pairs))[:PAIRS_TRIED], values, SLACK * rounding)
        if double and double[0][0] <= min(without / 10, reach):
            return self._named(double[0][1])
        if singles and singles[0][0] <= min(without / 30, 0.1):
            verdict, names, _ = self._named(singles[0][1])
            return verdict, names, f"a difference of {singles[0][0]:.1e} remains"
        if (
            stage.name == "logits"
            and own is not None
            and own.shape == values.shape
            and abs(_correlation(own, values)) < 0.1
        ):
            return "mistake", ("output projection not tied",), ""
        return "wrong", (), describe(values, own, stage, sizes(self.model.config, stage.half)["K"])

    def _expected(self, stage: Stage, own: Array | None, precision: int | str) -> float:
        """Return the error that a precision makes in a stage, at least that of rounding its result."""
        value = None if own is None else self._computed(stage, precision)
        floor = 6e-8 if precision == 32 else 0.0
        return floor if value is None or own is None else max(floor, _finite(relative_error(value, own)))

    def _candidates(self, stage: Stage) -> list[str]:
        """Return the mistakes that can be made between their arrays and a stage, those found already first."""
        plan = needed(self.graph, [stage.name], self.given)
        possible = [name for name, mistake in MISTAKES.items() if _fits(mistake, plan)]
        known = [name for name in self.suspects if name in possible]
        return [*known, *(name for name in possible if name not in known)]

    def _tried(
        self, stage: Stage, choices: Sequence[tuple[str, ...]], values: Array, enough: float
    ) -> list[tuple[float, tuple[str, ...]]]:
        """Return the error that remains with each choice of mistakes, the smallest first.

        A mistake that was found elsewhere and explains this stage as well ends the search.
        """
        tried = []
        for names in choices:
            value = self._computed(stage, 32, names)
            error = np.inf if value is None else relative_error(value, values)
            tried.append((error, names))
            if error <= enough and set(names) <= set(self.suspects):
                break
        if not tried:
            return []
        best = min(error for error, _ in tried)
        # Of mistakes that explain the values equally well, take the first of the catalogue: the sort is stable.
        return sorted(tried, key=lambda pair: pair[0] if pair[0] > 2 * max(best, 6e-8) else 0.0)

    def _named(self, names: tuple[str, ...]) -> tuple[str, tuple[str, ...], str]:
        self.suspects = [*names, *(name for name in self.suspects if name not in names)]
        return ("convention" if set(names) <= HARMLESS else "mistake"), names, ""


class _Converted(Mapping[str, Any]):
    """Given values, rounded when they are read."""

    def __init__(self, given: Mapping[str, Any], convert: Any) -> None:
        self._given, self._convert = given, convert

    def __getitem__(self, name: str) -> Any:
        value = self._given[name]
        return self._convert(value) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value

    def __contains__(self, name: object) -> bool:
        return name in self._given

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)


def _fits(mistake: Mistake, plan: Sequence[Stage]) -> bool:
    return any(stage.affected_by(mistake.edits) for stage in plan)


def _finite(value: float) -> float:
    return value if np.isfinite(value) else 0.0


def _correlation(one: Array, other: Array) -> float:
    a, b = one.ravel() - one.mean(), other.ravel() - other.mean()
    return float(a @ b / max(1e-300, np.linalg.norm(a) * np.linalg.norm(b)))


def describe(values: Array, own: Array | None, stage: Stage, head_width: int) -> str:
    """Describe an unexplained difference: another shape, a factor, a shift, or where it is.

    ``own`` is the value that they should have, and ``head_width`` is K.
    """
    if own is None:
        return "their arrays before it do not fit together"
    if values.shape != own.shape:
        return f"another shape, {_times(values.shape)}; expected {_times(own.shape)}"
    difference = np.abs(values - own)
    if not np.isfinite(difference).all():
        return f"{(~np.isfinite(difference)).sum()} infinite values, or missing ones"
    factor = float((values * own).sum() / max(1e-300, (own * own).sum()))
    if relative_error(values, factor * own) < 1e-3:
        return f"a constant factor of {factor:.6g}"
    offset = float((values - own).mean())
    if relative_error(values, own + offset) < 1e-3:
        return f"a constant of {offset:.6g} is added"
    letters = stage.shape.split()
    along = next((i for i, letter in enumerate(letters) if letter.lstrip("2") in ("T", "S", "N")), None)
    if along is not None and values.shape[along] > 8:
        inner = np.moveaxis(values, along, 0), np.moveaxis(own, along, 0)
        for step in (-2, -1, 1, 2):
            rolled = np.roll(inner[0], step, axis=0)[2:-2]
            if relative_error(rolled, inner[1][2:-2]) < 1e-3:
                return f"shifted by {abs(step)} to the {'end' if step < 0 else 'start'}"
        by_position = np.moveaxis(difference, along, 0).reshape(values.shape[along], -1).max(axis=1)
        bad = np.flatnonzero(by_position > max(1e-6, 0.02 * by_position.max()))
        if len(bad) <= len(by_position) // 4:
            shown = ", ".join(map(str, bad[:4])) + (" …" if len(bad) > 4 else "")
            return f"only {len(bad)} of {len(by_position)} positions differ: {shown}"
    if letters[-1] == "D":
        by_head = difference.reshape(-1, values.shape[-1] // head_width, head_width).max(axis=(0, 2))
        bad = np.flatnonzero(by_head > 0.02 * by_head.max())
        if len(bad) < len(by_head):
            return f"only heads {', '.join(map(str, bad))} of {len(by_head)} differ"
    return f"all positions differ; correlation {_correlation(values, own):.3f}"


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))

"""Long recordings in parts: merging the transcripts of parts, and keeping the finished ones."""

from made_transcripts import segment, transcript, word
from minwhisper.corpus.job import Part, Plan, Recording
from minwhisper.corpus.parts import PartStore, merged

PLAN = Plan(25.5, "en", (Part(0, 0.0, 10.25), Part(1, 10.25, 20.0), Part(2, 20.0, 25.5)))
RECORDING = Recording("talk.wav", "talk", 100, "5")


def test_times_of_parts_become_times_of_the_recording():
    first = transcript(segment(" One.", 0.0, 10.0, [word(" One.", 0.5, 9.9)]))
    second = transcript(segment(" Two.", 0.02, 4.5, [word(" Two.", 0.1, 0.7)]), segment(" Three.", 5.0, 9.0, seek=450))
    whole = merged(PLAN, [first, second, transcript(segment(" Four.", 1.0, 2.0))])
    assert whole["text"] == " One. Two. Three. Four."
    assert [(one["id"], one["start"], one["end"], one["seek"]) for one in whole["segments"]] == [
        (0, 0.0, 10.0, 0),
        (1, 10.27, 14.75, 1025),
        (2, 15.25, 19.25, 1475),
        (3, 21.0, 22.0, 2000),
    ]
    assert whole["segments"][1]["words"] == [{"word": " Two.", "start": 10.35, "end": 10.95, "probability": 0.5}]
    assert whole["language"] == "en"


def test_times_of_a_part_are_limited_to_its_end():
    """Chunks that are decoded in one process are limited in the same way. The last part stays as it is."""
    late = segment(" Late.", 8.0, 12.0, [word(" Late.", 9.0, 11.5)])
    first, second, last = merged(PLAN, [transcript(late), transcript(), transcript(late, late)])["segments"]
    assert (first["end"], first["words"][0]["end"]) == (10.25, 10.25)
    assert (second["start"], second["end"], last["end"]) == (28.0, 32.0, 32.0)


def test_finished_parts_survive_a_run_that_was_killed(tmp_path):
    store = PartStore(tmp_path, RECORDING, "digest")
    assert store.read(PLAN) == {}
    store.write(PLAN.parts[1], transcript(segment(" Two.", 0.0, 1.0)))
    store.write(PLAN.parts[0], transcript(segment(" One.", 0.0, 1.0)))
    (file,) = (tmp_path / ".parts").iterdir()
    file.write_bytes(file.read_bytes()[:-30])  # as if the run was killed while it wrote part 0
    store = PartStore(tmp_path, RECORDING, "digest")
    store.write(PLAN.parts[2], transcript())
    found = store.read(PLAN)
    assert found.keys() == {1, 2}
    assert found[1]["text"] == " Two."
    store.remove()
    assert list(tmp_path.iterdir()) == []


def test_parts_of_another_version_or_with_other_options_are_not_used(tmp_path):
    PartStore(tmp_path, RECORDING, "digest").write(PLAN.parts[0], transcript())
    for recording, digest in (
        (RECORDING._replace(modified="6"), "digest"),
        (RECORDING._replace(size=101), "digest"),
        (RECORDING, "other"),
    ):
        assert PartStore(tmp_path, recording, digest).read(PLAN) == {}
    other = Plan(25.5, "en", (Part(0, 0.0, 12.0), Part(1, 12.0, 25.5)))
    assert PartStore(tmp_path, RECORDING, "digest").read(other) == {}

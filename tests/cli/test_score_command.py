"""``minwhisper score``: its table, its alignment, its JSON, and the files that it refuses."""

import json

import pytest

from command_line import assert_refused, run_command
from minwhisper.cli.main import main
from screen import use_screen

SPOKEN = "Ask not what your country can do for you, ask what you can do for your country."
HEARD = "ask what your county can do for you ask what you can do for your own country"


def write(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def score(capfd):
    """Return a function that runs the command in this process: exit status, standard output, standard error."""
    return lambda *arguments: run_command(capfd, "score", *arguments)


@pytest.fixture
def files(tmp_path):
    """Write two files: the spoken text, and a transcript with one error of each kind."""
    return write(tmp_path / "spoken.txt", SPOKEN), write(tmp_path / "heard.txt", HEARD)


def test_a_file_has_one_line_of_rates_and_counts(score, files):
    done = score(*files)
    assert (done.status, done.err) == (0, "")
    head, line = done.out.splitlines()
    assert head.split() == ["WER", "CER", "S", "D", "I", "words"]
    assert line.split() == ["heard", "17.65", "%", "11.69", "%", "1", "1", "1", "17"]
    assert score(*files, "--cer").out.split()[-4:] == ["0", "5", "4", "77"]  # characters


def test_folders_have_a_line_per_pair_and_a_total_and_unpaired_files_are_named(score, tmp_path):
    for name, text in (("a", "so my"), ("b", "ask not what"), ("c", "not read")):
        write(tmp_path / "spoken" / f"{name}.txt", text)
    write(tmp_path / "heard" / "a.txt", "so my")
    write(tmp_path / "heard" / "b.tsv", "start\tend\ttext\n0\t100\task now\n100\t200\twhat\n")
    done = score(tmp_path / "spoken", tmp_path / "heard")
    assert done.status == 0
    rates = [line.split()[:2] for line in done.out.splitlines()[1:]]
    assert rates == [["a", "0.00"], ["b", "33.33"], ["total", "20.00"]]
    assert done.err == f"minwhisper: {tmp_path}/spoken/c.txt: the other folder has no file of this name; not counted\n"


def test_the_alignment_marks_each_error(score, files, monkeypatch):
    monkeypatch.setenv("COLUMNS", "48")
    lines = score(*files, "--alignment").out.splitlines()
    assert lines[:9] == [
        "heard",
        "",
        "REF: ask not what your country can do for you",
        "HYP: ask *** what your county  can do for you",
        "         D             S",
        "",
        "REF: ask what you can do for your *** country",
        "HYP: ask what you can do for your own country",
        "                                  I",
    ]
    characters = score(*files, "--alignment", "--cer").out
    assert "REF: ask␣not␣what␣your␣country␣can␣do␣for␣you" in characters
    assert "HYP: ask****␣what␣your␣count*y␣can␣do␣for␣you" in characters


def test_errors_are_coloured_on_a_terminal(files, monkeypatch):
    screen = use_screen(monkeypatch)
    assert main(["score", *map(str, files), "--alignment"]) == 0
    assert "\033[33mcounty \033[0m can" in screen.getvalue()
    screen = use_screen(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    main(["score", *map(str, files), "--alignment"])
    assert "\033" not in screen.getvalue()


def test_json_has_all_counts_and_the_alignment(score, files):
    report = json.loads(score(*files, "--json", "--alignment").out)
    (text,) = report["texts"]
    assert (text["name"], text["normalize"], report["unpaired"]) == ("heard", "english", [])
    assert text["words"] == {"substitutions": 1, "deletions": 1, "insertions": 1, "length": 17, "rate": 3 / 17}
    assert report["total"]["characters"] == text["characters"]
    wrong = [pair for pair in text["alignment"] if pair[0] != pair[1]]
    assert wrong == [["not", None], ["country", "county"], [None, "own"]]
    assert "alignment" not in json.loads(score(*files, "--json").out)["texts"][0]


def test_the_normalisation_is_english_unless_a_file_states_another_language(score, tmp_path):
    spoken = write(tmp_path / "spoken.txt", "Two colours")
    for language, wrong in (("en", 0), ("English", 0), ("fr", 2), ("xx", 2)):
        heard = write(tmp_path / "heard.json", json.dumps({"text": "2 colors", "language": language}))
        done = score(spoken, heard, "--json")
        assert json.loads(done.out)["total"]["words"]["substitutions"] == wrong, language
        assert ("basic normalisation, because its language is" in done.err) == (wrong > 0)
        assert json.loads(score(spoken, heard, "--json", "--normalize", "english").out)["total"]["words"]["rate"] == 0
    heard = write(tmp_path / "heard.txt", "two colours")
    for normalize, wrong in (("english", 0), ("basic", 0), ("none", 1)):
        done = score(spoken, heard, "--json", "--normalize", normalize)
        assert (json.loads(done.out)["total"]["words"]["substitutions"], done.err) == (wrong, "")


def test_files_that_cannot_be_scored_are_refused(score, files, tmp_path):
    spoken, heard = files
    assert_refused(score(tmp_path / "no\nfile", heard), r"no\nfile: there is no such file or folder")
    assert_refused(score(tmp_path, heard), "is a folder and ", "expected two files, or two folders")
    (tmp_path / "sound.txt").write_bytes(b"\xff\xfb\x90")
    assert_refused(score(spoken, tmp_path / "sound.txt"), "sound.txt: is not text", "transcribe an audio file first")
    for text, after in (("", ""), (" (laughs) ", " after english normalisation (--normalize)")):
        empty = write(tmp_path / "empty.txt", text)
        assert_refused(score(empty, heard), f"empty.txt: the reference has no words{after}; expected the text that was")
    assert "100.00 %" in score(spoken, empty).out

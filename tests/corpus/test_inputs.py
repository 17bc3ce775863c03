"""The recordings to transcribe, and the names of their outputs."""

import errno
import io
import os
import sys
from types import SimpleNamespace

import pytest

from minwhisper.corpus.inputs import Input, find_inputs, read_list
from minwhisper.errors import OptionError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*paths):
    for path in paths:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "ab"):
            pass


def outputs(*given, formats="json", **options):
    """Return the name of the outputs for each file that is found."""
    return {one.path: one.output for one in find_inputs(given, formats=formats.split(), **options)}


# ------------------------------------------------------------------------------------------ folders


def test_a_folder_gives_its_recordings_in_order():
    touch("in/b.wav", "in/a.MP3", "in/10.mkv", "in/notes.txt", "in/wav", "in/.hidden.wav", "in/.git/a.wav")
    touch("in/b/z.flac", "in/b/c/y.opus", "in/a.b/x.y.m4a")
    if hasattr(os, "mkfifo"):
        os.mkfifo("in/pipe.wav")  # not a regular file
    here = {"in/10.mkv": "10", "in/a.MP3": "a", "in/b.wav": "b"}
    assert outputs("in") == outputs("in/") == {**here}
    found = outputs("in", recursive=True)
    inner = {"in/a.b/x.y.m4a": "a.b/x.y", "in/b/c/y.opus": "b/c/y", "in/b/z.flac": "b/z"}
    assert found == here | inner
    assert list(found) == ["in/10.mkv", "in/a.MP3", "in/a.b/x.y.m4a", "in/b/c/y.opus", "in/b/z.flac", "in/b.wav"]
    assert [*outputs("in", "in/b", "in/b.wav", "in/../in/b.wav", recursive=True)] == list(found)  # each once


def test_nothing_to_transcribe_is_an_error():
    touch("in/sub/a.wav", "in/notes.txt")
    with pytest.raises(OptionError, match=r"^'in': a folder without recordings; .*--recursive searches its subfolders"):
        find_inputs(["in"])
    os.mkdir("empty")
    with pytest.raises(OptionError, match=r"^'empty': .*such as \.mp3, \.wav or \.mp4; give files with other endings"):
        find_inputs(["in", "empty"], recursive=True)
    assert find_inputs([]) == []


def test_links_are_followed_once_and_loops_end(folder):
    touch("in/b/x.wav", "other/y.wav")
    os.symlink("b", "in/a")  # before the folder itself
    os.symlink("..", "in/b/up")
    os.symlink(folder / "other", "in/c")
    os.symlink("loop.wav", "in/loop.wav")
    os.symlink("missing", "in/broken.wav")
    os.symlink("b/x.wav", "in/same.wav")  # a link with a name of its own has its own outputs
    names = ["broken", "loop", "same", "b/x", "c/y"]
    assert sorted(outputs("in", recursive=True).values()) == sorted(names)


def test_an_unreadable_folder_is_an_error_and_an_unreadable_subfolder_a_warning(monkeypatch):
    touch("in/a.wav", "in/sub/b.wav")
    scandir = os.scandir

    def guarded(path):  # tests may run as root, who can read all folders
        if path.endswith("sub"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.warns(match=r"'in/sub': a folder that cannot be read \(Permission denied\); its files are left out"):
        assert outputs("in", recursive=True) == {"in/a.wav": "a"}
    with pytest.raises(OptionError, match=r"^'in/sub': a folder that cannot be read .*; change its permissions"):
        find_inputs(["in/sub"])


# ------------------------------------------------------------------------------------------ names of outputs


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a.wav -", "a stdin"),  # they need not exist
        ("x/first.day.mp3 y/b.wav", "first.day b"),
        ("c/a/x.wav c/b/x.mp3 c/y.wav", "a/x b/x y"),
        ("x.wav a/x.wav ../x.wav", "here/x here/a/x x"),
        ("a/x.wav a/x.mp3 y.wav", "x.wav x.mp3 y"),
        ("a/x.wav a/x.mp3 b/x.wav.mp3", "a/x.wav a/x.mp3 b/x.wav"),
        ("x x.wav", "x x.wav"),
        ("a.wav ./a.wav b/../a.wav", "a"),
    ],
)
def test_outputs_are_named_after_files_and_the_folders_that_distinguish_them(folder, monkeypatch, given, expected):
    touch("here/b/nothing")
    monkeypatch.chdir("here")
    assert list(outputs(*given.split()).values()) == expected.split()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a c", "a/1 a/2 c/1"),
        ("d/a a", "d/a/1 a/1 a/2"),  # two folders of the same name
        ("a d/a/1.wav e/a/1.wav", "1 2 d/a/1 e/a/1"),
        ("a 1.wav", "a/1 a/2 1"),
        (". a", "./1 1 2"),
    ],
)
def test_outputs_of_several_folders_are_in_folders_of_these_names(given, expected):
    touch("a/1.wav", "a/2.wav", "b/3.wav", "c/1.wav", "d/a/1.wav", "e/a/1.wav", "1.wav")
    found = outputs(*given.split())
    if given.startswith("."):
        assert found["./1.wav"].endswith("/1")  # prefixed with the name of the current folder
    else:
        assert list(found.values()) == expected.split()


def test_files_that_differ_only_in_their_suffix_keep_it_and_change_no_other_name():
    touch("in/a/talk.mp4", "in/a/talk.mp3", "in/a/other.mp3", "in/talk.mp3")
    assert sorted(outputs("in", recursive=True).values()) == ["a/other", "a/talk.mp3", "a/talk.mp4", "talk"]


def test_a_suffix_is_kept_if_two_formats_would_give_the_same_name():
    kept, shortened = ["talk.mp3", "talk.words.mp3"], ["talk", "talk.words"]
    for formats, expected in (("vtt words.vtt", kept), ("srt words.vtt", shortened), ("words.vtt", shortened)):
        assert [*outputs(*kept, formats=formats).values()] == expected  # both could be written to talk.words.vtt


def test_names_that_clash_or_cannot_be_written_are_left_for_the_command_to_refuse():
    assert outputs("-", "stdin.wav") == {"-": "stdin", "stdin.wav": "stdin"}
    for path, output in (("a\0.wav", "a\0"), ("", ""), ("n/", "")):  # refused when they are read or written
        assert outputs(path) == {path: output}
    assert find_inputs(["a/x.wav", "b/x.wav"]) == [Input("a/x.wav", "x"), Input("b/x.wav", "x")]  # no formats


# ------------------------------------------------------------------------------------------ lists


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a.wav\n\n  \nb c.wav \n-\n", ["a.wav", "b c.wav ", "./-"]),
        (b"\xef\xbb\xbfa.wav\r\nb.wav", ["a.wav", "b.wav"]),
        (b"a\nb.wav\0 \r\n.wav\0\0", ["a\nb.wav", " \r\n.wav"]),
        ("gruß.wav\n".encode(), ["gruß.wav"]),
        (b"\xff.wav\n", [os.fsdecode(b"\xff.wav")]),
    ],
)
def test_a_list_gives_its_paths_in_order_whatever_the_separator(monkeypatch, content, expected):
    with open("list.txt", "wb") as file:
        file.write(content)
    assert read_list("list.txt") == expected
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert read_list("-") == expected


def test_empty_and_unreadable_lists_are_refused(monkeypatch):
    touch("list.txt")
    monkeypatch.setattr(sys, "stdin", None)
    for source, message in (
        ("list.txt", "'list.txt': expected a path per line, but the list is empty"),
        ("missing", r"'missing': cannot be read \(No such file.*a path per line"),
        (".", r"'\.': cannot be read \(Is a directory\)"),
        ("\0", ".*null"),
        ("-", "standard input: .* empty"),
    ):
        with pytest.raises(OptionError, match=f"^files_from {message}"):
            read_list(source)

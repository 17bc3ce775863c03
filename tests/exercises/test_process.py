"""An answer runs in a process of its own: it may hang, crash, exit or print without end."""

import sys
import time

import pytest

from minwhisper.common.console import Console
from minwhisper.exercises import command as commands
from minwhisper.exercises.command import command

LOG = "\ndef log_softmax(x): return x\n"


@pytest.fixture
def shown(tmp_path, capsys, monkeypatch):
    """Return a function that checks an answer to exercise 1 and returns the exit status and the output."""
    monkeypatch.setattr(commands, "LIMIT", 1.0)

    def run(source: str) -> tuple[int, str]:
        path = tmp_path / "answer.py"
        path.write_text(source + LOG, encoding="utf-8")
        status = command(1, path, Console())
        return status, capsys.readouterr().out.replace(str(path), "answer.py")

    return run


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "while True: pass",
            "stopped after 1 s, in answer.py, line 2, 'while True: pass'. Does a loop go on for ever?",
        ),
        ("import os; os._exit(3)", "your code ended the process, with exit status 3"),
        ("import ctypes; ctypes.string_at(0)", "Python itself crashed (signal SIGSEGV), in answer.py, line 2"),
        ("import os; os.closerange(0, 99); return x", "your code ended the process, with exit status 1"),
        ("return input()", "EOFError"),
    ],
)
def test_an_answer_that_ends_its_process_is_explained(body, words, shown):
    status, text = shown(f"def softmax(x):\n    {body}\n")
    assert status == 1
    assert text.startswith("not yet: softmax of a matrix (4, 4): ")
    assert words in text


def test_a_file_that_never_ends_is_stopped(shown):
    status, text = shown("def softmax(x): return x\nwhile True:\n    pass\n")
    assert status == 1
    assert "not yet: reading the file: stopped after 1 s, in answer.py, line " in text


def test_printed_text_is_shown_up_to_a_limit_and_cannot_forge_a_result(shown):
    forged = """print('{"event": "right"}', flush=True)"""
    status, text = shown(f"def softmax(x):\n    {forged}\n    while True: print('look \\x1b[31m' * 1000)\n")
    assert status == 1
    assert text.startswith('Your code printed:\n  | {"event": "right"}\n  | look \\x1b[31m')
    assert "bytes more\nnot yet: " in text
    assert len(text) < 5000


def test_threads_and_children_of_an_answer_do_not_keep_the_command_waiting(shown):
    started = time.monotonic()
    body = "    import threading\n    threading.Thread(target=time.sleep, args=(60,)).start()\n    return x\n"
    assert "softmax returns its argument as it is" in shown("import time\ndef softmax(x):\n" + body)[1]
    if hasattr(sys, "getwindowsversion"):
        return
    fork = "    import os\n    if not os.fork(): time.sleep(60)\n    os._exit(2)\n"
    assert "exit status 2" in shown("import time\ndef softmax(x):\n" + fork)[1]
    assert time.monotonic() - started < 30

"""``minwhisper completion``: the scripts complete commands, options and values in real shells."""

import shutil
import subprocess

import pytest

from command_line import run_command
from minwhisper.cli.help import arguments, subcommands
from minwhisper.cli.main import make_parser


@pytest.fixture
def complete(capfd, tmp_path):
    """Return what a shell completes a command line to."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "talk.mp3").touch()

    def completed(shell, line):
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed")
        script = tmp_path / "script"
        script.write_text(run_command(capfd, "completion", shell).out)
        words = " ".join(f"'{word}'" for word in line.split(" "))
        code = {
            "bash": f"source {script}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
            "_minwhisper; printf '%s\\n' \"${COMPREPLY[@]}\"",
            "fish": f"source {script}; complete -C '{line}'",
        }[shell]
        done = subprocess.run([shell, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        return {word.split("\t")[0] for word in done.stdout.split("\n")} - {""}

    return completed


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_commands_options_values_and_folders_are_completed(complete, shell):
    for line, completed in (
        ("tra", {"trace", "transcribe"}),
        ("transcribe --language_", {"--language_detection_windows"}),
        ("transcribe --task ", {"transcribe", "translate"}),
        ("transcribe -f tx", {"txt"}),
        ("transcribe -f js", {"json", "jsonl"}),
        ("transcribe --skip", {"--skip_existing"}),
        ("transcribe --files_from ta", set() if shell == "bash" else {"talk.mp3"}),
        ("transcribe -f words.", {"words.vtt", "words.tsv"}),
        ("transcribe --language germ", {"german"}),
        ("transcribe --output_dir ", {"folder"}),
        ("transcribe ta", set() if shell == "bash" else {"talk.mp3"}),  # bash completes file names itself
        ("align talk", set() if shell == "bash" else {"talk.mp3"}),
        ("align a.wav a.txt --lang", {"--language"}),
        ("info ta", set()),
        ("info base", {"base", "base.en"}),
        ("bench --th", {"--threads"}),
    ):
        assert {word.rstrip("/") for word in complete(shell, f"minwhisper {line}")} == completed, line
    assert complete(shell, "minwhisper transcribe a.wav --model lar") >= {"large-v3", "large-v3-turbo"}


def test_the_script_for_zsh_is_valid(capfd, tmp_path):
    script = run_command(capfd, "completion", "zsh").out
    for name, command in subcommands(make_parser()).items():
        (line,) = (line for line in script.splitlines() if line.strip().startswith(f"{name})"))
        assert all(f"'{flag}[" in line for action in arguments(command) for flag in action.option_strings)
    assert "'--task[transcribe in the spoken language, or translate to English]:task:(transcribe translate)'" in script
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    (tmp_path / "_minwhisper").write_text(script)
    code = f"autoload -U compinit; compinit -D; source {tmp_path}/_minwhisper; print $_comps[minwhisper]"
    done = subprocess.run(["zsh", "-f", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("_minwhisper\n", "")

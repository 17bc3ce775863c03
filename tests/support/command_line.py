"""The command run in this process, and what its tests say of it again and again."""

from types import SimpleNamespace

from minwhisper.cli.main import main

GREEDY = ("--beam_size", "None", "--best_of", "None")  # where the search is not the point


def run_command(capfd, *arguments):
    """Run the command: exit status, standard output, standard error."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as leave:  # argparse leaves by itself
        status = leave.code
    out, err = capfd.readouterr()
    return SimpleNamespace(status=status, out=out, err=err)


def assert_refused(result, *parts):
    """Assert exit status 2 and one line on standard error, the last, that holds all parts."""
    assert result.status == 2
    *before, line = result.err.splitlines()
    assert all(": model " in other for other in before)  # the line that says which model it is
    assert "Traceback" not in result.err
    for part in parts:
        assert part in line

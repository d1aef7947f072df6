# SPDX-License-Identifier: Apache-2.0
import inspect

from container_stack import exceptions


def test_command_failure_keeps_only_the_last_line_that_says_something():
    error = exceptions.CommandFailed("mount_xfs", 32, "noise\nmount: wrong fs type\n\n")
    assert (error.command, error.exit_code, error.timed_out) == ("mount_xfs", 32, False)
    assert str(error) == "mount_xfs failed with exit code 32: mount: wrong fs type"


def test_command_failure_cuts_long_output():
    assert len(exceptions.CommandFailed("x", 1, "y" * 9000).stderr) == 500


def test_command_failure_says_that_the_deadline_passed():
    assert "deadline" in str(exceptions.CommandFailed("x", -9, timed_out=True))


def test_every_error_is_in_the_one_tree():
    classes = [c for _, c in inspect.getmembers(exceptions, inspect.isclass)]
    assert all(issubclass(each, exceptions.ContainerStackError) for each in classes)
    drawn = exceptions.__doc__ or ""
    assert [c.__name__ for c in classes if c.__name__ not in drawn] == []

"""What is wrong with an operator's input."""

from __future__ import annotations


class InputError(Exception):
    """The thing, the reason and the next step, in words for the operator."""

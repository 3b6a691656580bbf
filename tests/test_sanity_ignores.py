"""What ansible-test sanity may pass over is written down."""

import sanity_ignores


def test_the_list_is_written() -> None:
    assert sanity_ignores.IGNORES.read_text() == sanity_ignores.ignores(), "run tools/sanity_ignores.py"

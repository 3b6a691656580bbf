"""Which version this is; a scenario makes others by putting another file in its place."""

VERSION = "one"

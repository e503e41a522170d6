"""`python -m imagelake`."""

from imagelake.cli.main import run

run()

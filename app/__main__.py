"""`python -m vtag.app` is the command `vtag`."""

from vtag.app.cli import main

main()

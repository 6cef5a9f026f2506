"""`python -m speaker.planner`: started by the reflex, never by hand."""

from speaker.planner.app import main

main()

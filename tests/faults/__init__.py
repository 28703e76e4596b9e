"""Does a study survive what a night brings? Faults on purpose, each in a real process; `nox -s faults` runs them."""

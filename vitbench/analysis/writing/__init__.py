"""How results are written down: words, one `Table`, files, figures. Knows nothing of vitbench."""

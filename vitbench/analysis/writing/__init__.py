"""How are results written? Words, one `Table`, files and figures, of anything: nothing of vitbench's records is known."""

"""The table of a comparison: its cells, its captions, and the sentences beside it."""

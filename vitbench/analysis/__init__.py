"""What the records say: comparable groups, paired statistics, tables, plots, the report. Imports no torch.

Import the modules, not this package, for what they offer: plotting libraries are loaded only where something is drawn.
"""

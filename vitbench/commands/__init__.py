"""How is each command asked, and how is its answer printed? They parse and print; what they call decides and computes.

Importing this package imports no torch; commands that compute import it when they start.
"""

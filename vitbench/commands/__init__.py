"""What the commands do. Importing this package imports no torch; commands that compute import it when they start."""

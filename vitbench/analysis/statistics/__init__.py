"""What numbers of several seeds allow one to say. Imports nothing of ours."""

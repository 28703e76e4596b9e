"""What a trained model looks like inside: each figure from its numbers alone."""

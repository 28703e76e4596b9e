"""What does a trained model look like inside? Attention, similarity of layers, confusion, filters and positions."""

"""What do comparisons look like? One figure a file; `shared` has what they have in common."""

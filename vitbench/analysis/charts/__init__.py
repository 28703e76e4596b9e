"""The figures of a comparison, one file each; `shared` has what they have in common."""

"""The figures of a comparison, one file each; `parts` has what they share."""

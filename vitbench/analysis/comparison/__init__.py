"""Which records may be compared, and what the comparison shows: facts, findings, notes, claims."""

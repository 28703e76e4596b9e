"""What do the records of frozen features show? One table and one chart."""

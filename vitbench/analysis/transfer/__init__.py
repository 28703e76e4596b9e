"""What the records of frozen features come to: one table and one chart."""

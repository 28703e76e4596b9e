"""What does a device's profile show? Tables, contests with peers, the roofline, the time of a traced step."""

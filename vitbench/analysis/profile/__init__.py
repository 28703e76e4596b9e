"""What a device profile comes to: tables, contests with peers, the roofline."""

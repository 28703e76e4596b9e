"""What do the numbers of several seeds allow one to say? Pure statistics, which import nothing else of vitbench."""

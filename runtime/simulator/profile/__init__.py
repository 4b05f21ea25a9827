"""What a launch did: counts by instruction and source line, and which barriers it doesn't need."""

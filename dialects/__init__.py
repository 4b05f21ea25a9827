"""Types, attributes and operations that programs are made of."""

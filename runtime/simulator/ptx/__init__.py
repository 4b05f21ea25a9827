"""PTX as text and as a syntax tree: tokens, declarations, statements, modules."""

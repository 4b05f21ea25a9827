"""The attention engine: variants, KV formats, compiled operations and their plans."""

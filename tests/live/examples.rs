//! What a user copies from `examples/` does what its first lines say.

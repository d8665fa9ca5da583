"""The owner of a study: it chooses the trials to train, plans packs and records results."""

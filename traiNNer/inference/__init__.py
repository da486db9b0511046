"""A finished network at work: opening a checkpoint, and running it over images and scenes."""

"""Video files: frames by number, colours, encoding; and scenes, which are a folder or a file."""

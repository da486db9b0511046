"""Floor 0: registry, errors, logging, seeds, files and images. Knows nothing of the floors
above.
"""

"""What a run will take, told before it runs: which shapes the network allows, and which fit."""

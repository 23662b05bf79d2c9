"""One file a study; ``advbench list recipes`` names them."""

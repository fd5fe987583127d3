"""The household: the game servers of this node and the commands that move them."""

"""Real game servers for the tests: the recipes of their images, and what their players' games ask over the network."""

"""The shelves: what game servers keep on the node's disk, and how much of it each may take."""

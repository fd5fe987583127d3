"""The hands: the Docker Engine, spoken to over its UNIX socket."""

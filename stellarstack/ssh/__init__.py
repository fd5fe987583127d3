"""The side door: a server's live console by SSH, on Twisted Conch."""

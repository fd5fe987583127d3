"""The doors: WebSocket console, HTTP and the local control socket."""

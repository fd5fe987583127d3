"""The gauges: figures of the host and of each container."""

"""Bidirectional Forwarding Detection, asynchronous mode (RFC 5880, RFC 5881, RFC 5883)."""

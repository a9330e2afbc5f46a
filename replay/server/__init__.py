"""The log over gRPC: the server, and the client that talks to it (extra: grpc)."""

"""One module a wire format. A provider translates one call; it knows nothing of decisions or money."""

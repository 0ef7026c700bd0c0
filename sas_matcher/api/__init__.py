"""The HTTP and websocket face: every route authenticated and scoped, every error a problem+json in French."""

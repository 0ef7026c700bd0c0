"""The use cases, one a module: publish, regulate, match, relay, keep house."""
